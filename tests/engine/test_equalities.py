# SPDX-License-Identifier: Apache-2.0
"""Ways of running that must not change a token. The judge of all of them is HF transformers."""

from __future__ import annotations

import pytest
from support.engine import engine, greedy
from support.engine_state import assert_split, watch_prompts
from support.reference import Reference
from vllm import SamplingParams

NEW_TOKENS = 20


@pytest.fixture(scope="module", params=["qwen3", "mistral-window"])
def model(request, checkpoint):
    return checkpoint(request.param)


@pytest.fixture(scope="module")
def expected(model, prompts):
    reference = Reference(model)
    return [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]


def test_one_at_a_time_equals_a_batch(model, prompts, expected):
    with engine(model) as llm:
        assert [greedy(llm, [prompt], NEW_TOKENS)[0] for prompt in prompts] == expected
        assert greedy(llm, prompts, NEW_TOKENS) == expected


def test_prefix_cache_hits_change_nothing(model, prompts, expected):
    with engine(model, enable_prefix_caching=True, block_size=16) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected
        again = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False),
            use_tqdm=False,
        )
    assert [list(output.outputs[0].token_ids) for output in again] == expected
    assert sum(output.num_cached_tokens for output in again) > 0


def test_chunked_prefill_equals_whole(model, prompts, expected):
    with engine(
        model, enable_chunked_prefill=True, max_num_batched_tokens=16, enable_prefix_caching=False
    ) as llm:
        seen = watch_prompts(llm)
        assert greedy(llm, prompts, NEW_TOKENS) == expected
    assert_split(seen, 16)


def test_preempted_requests_end_the_same(model, prompts, expected):
    # Too few blocks for all requests at once: some are thrown out and start again.
    with engine(
        model,
        num_gpu_blocks_override=14,
        block_size=16,
        max_model_len=128,
        disable_log_stats=False,
    ) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected
        preemptions = next(
            metric.value for metric in llm.get_metrics() if metric.name == "vllm:num_preemptions"
        )
    assert preemptions > 0


def test_compiled_equals_eager(model, prompts, expected):
    with engine(model, enforce_eager=False) as llm:
        assert llm.llm_engine.vllm_config.compilation_config.mode.name == "VLLM_COMPILE"
        assert greedy(llm, prompts, NEW_TOKENS) == expected


def test_one_seed_gives_one_answer_whatever_the_batch(model, prompts):
    def sampled(llm, chosen):
        parameters = [
            SamplingParams(
                temperature=1.0,
                top_k=50,
                top_p=0.9,
                seed=5 + index,
                max_tokens=NEW_TOKENS,
                ignore_eos=True,
                detokenize=False,
            )
            for index in chosen
        ]
        outputs = llm.generate(
            [{"prompt_token_ids": prompts[index]} for index in chosen], parameters, use_tqdm=False
        )
        return [list(output.outputs[0].token_ids) for output in outputs]

    everything = range(len(prompts))
    with engine(model) as llm:
        first = sampled(llm, everything)
        assert sampled(llm, everything) == first
        assert [sampled(llm, [index])[0] for index in everything] == first
    # Nothing is drawn for good before a prompt's last piece.
    with engine(model, enable_chunked_prefill=True, max_num_batched_tokens=16) as llm:
        assert sampled(llm, everything) == first
    assert len({tuple(tokens) for tokens in first}) == len(prompts)


@pytest.mark.parametrize("multiprocessing", ["0", "1"])
def test_engine_in_a_process_of_its_own(model, prompts, expected, multiprocessing, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", multiprocessing)
    with engine(model) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected


def test_tensor_parallel_equals_one_rank(checkpoint, prompts, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    folder = checkpoint("qwen2")
    reference = Reference(folder)
    with engine(folder, tensor_parallel_size=2) as llm:
        answers = greedy(llm, prompts, NEW_TOKENS)
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
