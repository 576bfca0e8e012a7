# SPDX-License-Identifier: Apache-2.0
"""Drafts of every kind that has weights or a package of its own."""

from __future__ import annotations

import copy
from pathlib import Path

from support import checkpoints, drafters
from support.engine import engine, greedy
from support.engine_state import drafts
from support.tried import judged

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["TRIED"]

PIECES = {"enable_chunked_prefill": True, "max_num_batched_tokens": 40, "max_num_seqs": 8}


def _head(method: str, name: str, *paddings: bool):
    def tried(folder: Path, prompts: judged.Prompts) -> None:
        config = copy.deepcopy(checkpoints.CONFIGURATIONS[name])
        config.num_hidden_layers = 4
        # transformers 5 refuses a Llama, as these heads are, whose width its heads do not divide.
        config.num_attention_heads, config.num_key_value_heads = 6, 2
        if getattr(config, "layer_types", None):
            config.layer_types = ["full_attention"] * 4
        target = drafters.weaken(checkpoints.write_configuration(config, folder / "target"))
        (folder / "head").mkdir()
        more = {"places": 3} if method == "medusa" else {}
        head = getattr(drafters, method)(target, folder / "head", **more)
        expected = judged.expected(target, prompts, 16)
        for unpadded in paddings:
            speculation = {"method": method, "model": str(head), "num_speculative_tokens": 3}
            speculation |= {"disable_padded_drafter_batch": unpadded}
            with engine(
                target, speculative_config=speculation, disable_log_stats=False, **PIECES
            ) as llm:
                judged.agree(greedy(llm, prompts, 16), expected)
                proposed, accepted = drafts(llm)
            assert proposed / 10 < accepted < proposed

    return tried


def _suffix(folder: Path, prompts: judged.Prompts) -> None:
    """vLLM asks for a package of its own here, which the tests do not install."""
    target = checkpoints.write("qwen3", folder)
    speculation = {"method": "suffix", "num_speculative_tokens": 3}
    try:
        with engine(target, speculative_config=speculation):
            raise AssertionError("it started without vLLM's package")
    except ImportError as error:
        raise UnsupportedError(f"vLLM itself: {error}") from error


TRIED = {
    "EAGLE": _head("eagle", "llama", False, True),
    "EAGLE-3": _head("eagle3", "qwen3", False, True),
    "Medusa": _head("medusa", "qwen3", False),
    "suffix decoding": _suffix,
}
