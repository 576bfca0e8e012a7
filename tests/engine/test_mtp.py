# SPDX-License-Identifier: Apache-2.0
"""Drafts by a multi-token-prediction layer change how many tokens a step gives, not which.

The plain answers are transformers' for DeepSeek-V3 and Qwen3-Next, the formulas' for V3.2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import checkpoints, draft_layer, sparse
from support.engine import engine, greedy
from support.engine_state import drafts
from support.reference import Reference

pytestmark = pytest.mark.slow

NEW_TOKENS = 16
MIXTURES = "deepseek-v3-mixtures"


@pytest.fixture(scope="module", params=["dense", "sparse", "linear"])
def model(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "linear":
        return draft_layer.add_to_qwen3_next(checkpoints.write("qwen3-next", folder))
    if request.param == "dense":
        return draft_layer.add(checkpoints.write(MIXTURES, folder))
    return draft_layer.add(sparse.write(folder, topk=24, name=MIXTURES))


@pytest.fixture(scope="module")
def expected(model, prompts) -> list[list[int]]:
    is_sparse = "index_topk" in (model / "config.json").read_text()
    reference = sparse.SparseReference(model) if is_sparse else Reference(model)
    return [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]


def drafting(model: Path, count: int, **arguments: Any) -> Any:
    method = {"method": "mtp", "num_speculative_tokens": count}
    return engine(model, speculative_config=method, disable_log_stats=False, **arguments)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
def test_tokens_equal_plain_greedy_decoding(model, expected, prompts, count, eager):
    with drafting(model, count, enforce_eager=eager) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected
        proposed, accepted = drafts(llm)
    print(f"{accepted} of {proposed} drafts accepted")
    assert proposed / 10 < accepted < proposed


def test_cached_prefixes_and_pieces_of_prompts_change_nothing(model, expected, prompts):
    # vLLM itself refuses to keep states of linear layers for later while it drafts.
    is_linear = "linear_attention" in (model / "config.json").read_text()
    with drafting(
        model,
        2,
        enable_prefix_caching=not is_linear,
        enable_chunked_prefill=True,
        max_num_batched_tokens=40,
        max_num_seqs=8,
    ) as llm:
        for _ in range(2):
            assert greedy(llm, prompts, NEW_TOKENS) == expected
        _, accepted = drafts(llm)
    assert accepted > 0


def test_two_ranks_equal_one(model, expected, prompts, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with drafting(model, 2, tensor_parallel_size=2) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected
