# SPDX-License-Identifier: Apache-2.0
"""EAGLE, EAGLE-3 and Medusa change how many tokens a step gives, and not which (HF's)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from support import checkpoints, drafters
from support.engine import engine, greedy
from support.engine_state import drafts
from support.reference import Reference

NEW_TOKENS = 16
DRAFTS = 3
TARGETS = {"eagle": "llama", "eagle3": "qwen3", "medusa": "qwen3"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, prompts):
    """``made(method)``: target, head and HF's tokens, made on first use."""
    known: dict[str, tuple[Path, Path, list[list[int]]]] = {}

    def make(method: str) -> tuple[Path, Path, list[list[int]]]:
        if method not in known:
            name = TARGETS[method]
            config = copy.deepcopy(checkpoints.CONFIGURATIONS[name])
            config.num_hidden_layers = 4
            if getattr(config, "layer_types", None):
                config.layer_types = ["full_attention"] * 4
            target = checkpoints.write_configuration(config, tmp_path_factory.mktemp(name))
            drafters.weaken(target)
            folder = tmp_path_factory.mktemp(method)
            more = {"places": DRAFTS} if method == "medusa" else {}
            head = getattr(drafters, method)(target, folder, **more)
            reference = Reference(target)
            known[method] = target, head, [reference.greedy(p, NEW_TOKENS) for p in prompts]
        return known[method]

    return make


def check(made: Any, prompts: Any, method: str, arguments: dict[str, Any], **more: Any) -> None:
    target, head, expected = made(method)
    config = {"method": method, "model": str(head), "num_speculative_tokens": DRAFTS, **more}
    with engine(target, speculative_config=config, disable_log_stats=False, **arguments) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected
        proposed, accepted = drafts(llm)
    print(f"{accepted} of {proposed} drafts accepted")
    assert proposed / 10 < accepted < proposed


PIECES = {"enable_chunked_prefill": True, "max_num_batched_tokens": 40, "max_num_seqs": 8}


def test_eagle_without_padding(made, prompts):
    """Only what was accepted is drafted from, counted on the host."""
    check(made, prompts, "eagle", PIECES, disable_padded_drafter_batch=True)


@pytest.mark.slow
@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
@pytest.mark.parametrize("unpadded", [False, True], ids=["padded", "not-padded"])
@pytest.mark.parametrize("method", ["eagle", "eagle3"])
def test_eagle(method, unpadded, eager, made, prompts):
    arguments = PIECES | {"enforce_eager": eager}
    check(made, prompts, method, arguments, disable_padded_drafter_batch=unpadded)


@pytest.mark.slow
def test_medusa(made, prompts):
    check(made, prompts, "medusa", PIECES)
