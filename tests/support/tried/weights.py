# SPDX-License-Identifier: Apache-2.0
"""Other weights for an engine that serves, and weights as an engine saves them."""

from __future__ import annotations

import shutil
from pathlib import Path

from support import renewal
from support.engine import engine
from support.tried import judged

__all__ = ["TRIED"]


def _renewed(form: str):
    def tried(folder: Path, prompts: judged.Prompts) -> None:
        first, second = (renewal.write("qwen2", form, folder, seed) for seed in (0, 1))
        with engine(second) as llm:
            of_second = renewal.answers(llm, prompts)
        with engine(first) as llm:
            of_first = renewal.answers(llm, prompts)
            renewal.reload_from(llm, second)
            judged.agree(renewal.answers(llm, prompts), of_second)
            renewal.load(llm, renewal.state(first))
            judged.agree(renewal.answers(llm, prompts), of_first)
        assert of_first != of_second

    return tried


def _sharded_state(form: str):
    def tried(folder: Path, prompts: judged.Prompts) -> None:
        source, saved = renewal.write("qwen2", form, folder, 0), folder / "saved"
        shutil.copytree(source, saved, ignore=shutil.ignore_patterns("*.safetensors"))
        with engine(source) as llm:
            expected = renewal.answers(llm, prompts)
            llm.llm_engine.engine_core.save_sharded_state(path=str(saved))
        with engine(saved, load_format="sharded_state") as llm:
            judged.agree(renewal.answers(llm, prompts), expected)

    return tried


TRIED = {
    "weights renewed": _renewed("float"),
    "weights renewed, W8A8": _renewed("w8a8"),
    "weights renewed, AWQ": _renewed("awq"),
    "weights renewed, GPTQ": _renewed("gptq"),
    "sharded state": _sharded_state("float"),
    "sharded state, quantised": _sharded_state("awq"),
}
