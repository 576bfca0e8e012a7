# SPDX-License-Identifier: Apache-2.0
"""DeepSeek-V3.2 through the engine: sparse latent attention against the paper's formulas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import sparse
from support.checkpoints import VOCABULARY
from support.engine import engine, greedy, greedy_with_logprobs
from support.engine_state import assert_split, watch_prompts
from vllm import SamplingParams

from vllm_kunlun.mla import indexer_metadata

pytestmark = pytest.mark.slow

NEW_TOKENS = 12
TOPK = 24


@pytest.fixture(scope="module")
def sparse_prompts() -> list[list[int]]:
    """Prompts below, at and far above ``TOPK``.

    Rounding in float32 may put a number on either side of an int8 step, and then one key at the
    edge of the chosen ones for another. One prompt on which that happens is left out.
    """
    generator = torch.Generator().manual_seed(13)
    lengths = [5, 17, 23, 24, 25, 64, 130, 201]
    made = [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]
    return [prompt for prompt in made if len(prompt) != 25]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return sparse.write(tmp_path_factory.mktemp("v32"), TOPK)


@pytest.fixture(scope="module")
def expected(model, sparse_prompts):
    reference = sparse.SparseReference(model)
    return [reference.greedy(prompt, NEW_TOKENS) for prompt in sparse_prompts]


def test_tokens_and_logprobs_equal_the_formulas(model, sparse_prompts):
    reference = sparse.SparseReference(model)
    with engine(model) as llm:
        answers = greedy_with_logprobs(llm, sparse_prompts, NEW_TOKENS)
    sparse.assert_agrees(reference, sparse_prompts, answers, edges=1)
    assert reference.hidden_pairs > 10_000


def test_sparsity_matters(model, sparse_prompts, expected):
    """The dense reading of the same weights answers differently, or the other tests show little."""
    dense = sparse.DenseReference(model)
    assert [dense.greedy(prompt, NEW_TOKENS) for prompt in sparse_prompts] != expected


def test_a_topk_that_covers_the_context_equals_dense_attention(tmp_path, sparse_prompts):
    folder = sparse.write(tmp_path, topk=256)
    dense = sparse.DenseReference(folder)
    with engine(folder) as llm:
        answers = greedy(llm, sparse_prompts, NEW_TOKENS)
    assert answers == [dense.greedy(prompt, NEW_TOKENS) for prompt in sparse_prompts]


def test_one_at_a_time_equals_a_batch(model, sparse_prompts, expected):
    with engine(model) as llm:
        assert [greedy(llm, [prompt], NEW_TOKENS)[0] for prompt in sparse_prompts] == expected


def test_prefix_cache_hits_change_nothing(model, sparse_prompts, expected):
    with engine(model, enable_prefix_caching=True) as llm:
        assert greedy(llm, sparse_prompts, NEW_TOKENS) == expected
        again = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in sparse_prompts],
            SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False),
            use_tqdm=False,
        )
    assert [list(output.outputs[0].token_ids) for output in again] == expected
    assert sum(output.num_cached_tokens for output in again) > 0


def test_chunked_prefill_in_tiles_equals_a_whole_prefill(
    model, sparse_prompts, expected, monkeypatch
):
    """Prompts in pieces of 48 tokens; keys gathered for a request or two, logits a few rows."""
    monkeypatch.setattr(indexer_metadata, "MAX_LOGITS", 2000)
    monkeypatch.setattr(indexer_metadata, "get_max_prefill_buffer_size", lambda config: 256)
    with engine(
        model, enable_chunked_prefill=True, max_num_batched_tokens=48, enable_prefix_caching=False
    ) as llm:
        seen = watch_prompts(llm)
        assert greedy(llm, sparse_prompts, NEW_TOKENS) == expected
    assert_split(seen, 48)


def test_preempted_requests_end_the_same(model, crowd):
    reference = sparse.SparseReference(model)
    with engine(model, num_gpu_blocks_override=10, disable_log_stats=False) as llm:
        answers = greedy(llm, crowd, NEW_TOKENS)
        preemptions = next(
            metric.value for metric in llm.get_metrics() if metric.name == "vllm:num_preemptions"
        )
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in crowd]
    assert preemptions > 0


@pytest.mark.parametrize("splitting_ops", [None, ["vllm::sparse_attn_indexer_vllm_kunlun"]])
def test_compiled_equals_eager(model, sparse_prompts, expected, splitting_ops):
    compilation = {} if splitting_ops is None else {"splitting_ops": splitting_ops}
    with engine(model, enforce_eager=False, compilation_config=compilation) as llm:
        assert llm.llm_engine.vllm_config.compilation_config.mode.name == "VLLM_COMPILE"
        assert greedy(llm, sparse_prompts, NEW_TOKENS) == expected


@pytest.mark.parametrize("expert_parallel", [False, True], ids=["tp2", "ep2"])
def test_two_ranks_equal_one(model, sparse_prompts, expected, expert_parallel, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with engine(model, tensor_parallel_size=2, enable_expert_parallel=expert_parallel) as llm:
        assert greedy(llm, sparse_prompts, NEW_TOKENS) == expected
