# SPDX-License-Identifier: Apache-2.0
"""MiMo against HF's Qwen2 with the same weights, MiMo-V2-Flash against its formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import checkpoints, mimo
from support.engine import WAYS, engine, greedy
from support.reference import Reference

NEW_TOKENS = 24


@pytest.fixture(scope="module", params=["mimo", "mimo-v2-flash"])
def model(request, tmp_path_factory, prompts) -> tuple[Path, list[list[int]]]:
    """A checkpoint and what is expected of it."""
    folder = tmp_path_factory.mktemp("mimo")
    reference: Any
    if request.param == "mimo-v2-flash":
        reference = mimo.MimoReference(mimo.write(folder))
    else:
        reference = Reference(checkpoints.write("qwen2", folder))
        mimo.of_qwen2(folder)
    return folder, [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]


@pytest.mark.parametrize("way", WAYS)
def test_tokens_are_the_references(way, model, prompts, monkeypatch):
    folder, expected = model
    if "tensor_parallel_size" in way:
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with engine(folder, trust_remote_code=True, enable_prefix_caching=True, **way) as llm:
        for _ in range(2):
            assert greedy(llm, prompts, NEW_TOKENS) == expected
