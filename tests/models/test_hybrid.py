# SPDX-License-Identifier: Apache-2.0
"""Models of linear and full attention through the engine against HF transformers."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from support import checkpoints
from support.checkpoints import HYBRID_CONFIGURATIONS, VOCABULARY
from support.engine import MEASURED, engine, greedy, greedy_with_logprobs
from support.engine_state import watch_prompts
from support.memory import Allocations
from support.reference import Reference
from vllm import SamplingParams

from vllm_kunlun.emulator.device.worker import KunlunWorker

NEW_TOKENS = 24
LOGPROB_TOLERANCE = {torch.float32: 3e-4, torch.float16: 4e-2}
BLOCK_TOKENS = {"qwen3-next": 64, "qwen3-next-long-blocks": 320}
"""As many tokens of attention as take no less memory than one recurrent state, in pages of 64."""


@pytest.fixture(scope="module")
def prompts():
    """1 to 150 tokens: below, at and beyond one and two chunks of 64."""
    generator = torch.Generator().manual_seed(11)
    return [
        torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        for length in (1, 5, 63, 64, 150)
    ]


@pytest.fixture(scope="module", params=HYBRID_CONFIGURATIONS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name, checkpoint):
    return checkpoint(name)


@pytest.fixture(scope="module")
def expected_of(checkpoint, prompts):
    """HF's greedy tokens by the model's name; HF takes its time over linear attention."""

    @functools.cache
    def answer(name):
        reference = Reference(checkpoint(name))
        return [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]

    return answer


@pytest.fixture(scope="module")
def expected(name, expected_of):
    return expected_of(name)


def test_tokens_and_logprobs_equal_transformers(name, model, prompts, expected):
    reference = Reference(model)
    with engine(model) as llm:
        assert llm.llm_engine.vllm_config.cache_config.block_size == BLOCK_TOKENS[name]
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
        one_at_a_time = [greedy(llm, [prompt], NEW_TOKENS)[0] for prompt in prompts]
    assert [tokens for tokens, _ in answers] == expected
    assert one_at_a_time == expected
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        _, theirs = reference.judge(prompt, tokens)
        tolerance = LOGPROB_TOLERANCE[torch.float32]
        torch.testing.assert_close(torch.tensor(logprobs), theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize("tokens_in_a_step", [16, 33, 70])
def test_chunked_prefill_equals_whole(tokens_in_a_step, model, prompts, expected):
    """Steps that hold decodes, ends of prompts (some of one token) and beginnings together."""
    with engine(
        model, enable_chunked_prefill=True, max_num_batched_tokens=tokens_in_a_step, max_num_seqs=5
    ) as llm:
        seen = watch_prompts(llm)
        assert greedy(llm, prompts, NEW_TOKENS) == expected
    # Prompts that are shorter than a step share it, and the last one of it is cut.
    assert max(steps for _, steps in seen.values()) > 1


def test_prefix_cache_hits_change_nothing(name, model, prompts, expected):
    """A prompt that was served before goes on from a state that was kept beside its blocks."""
    with engine(model, enable_prefix_caching=True) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected
        again = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False),
            use_tqdm=False,
        )
    assert [list(output.outputs[0].token_ids) for output in again] == expected
    cached = sum(output.num_cached_tokens for output in again)
    assert cached == {"qwen3-next": 128, "qwen3-next-long-blocks": 0}[name]


def test_compiled_equals_eager(model, prompts, expected):
    with engine(model, enforce_eager=False) as llm:
        assert llm.llm_engine.vllm_config.compilation_config.mode.name == "VLLM_COMPILE"
        assert greedy(llm, prompts, NEW_TOKENS) == expected


def test_float16_logprobs_are_near_transformers_in_float32(checkpoint, prompts):
    folder = checkpoint("qwen3-next-long-blocks", torch.float16)
    reference = Reference(folder, torch.float32)
    with engine(folder, dtype="float16") as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        _, theirs = reference.judge(prompt, tokens)
        tolerance = LOGPROB_TOLERANCE[torch.float16]
        torch.testing.assert_close(torch.tensor(logprobs), theirs, atol=tolerance, rtol=0)


def test_preempted_requests_end_the_same(checkpoint, prompts, expected_of):
    """Thrown out for want of blocks, a request starts again, on blocks that held other states."""
    # 27 blocks for the prompts, 29 in the end, and one that vLLM keeps for itself.
    with engine(
        checkpoint("qwen3-next"), num_gpu_blocks_override=29, disable_log_stats=False
    ) as llm:
        answers = greedy(llm, prompts, NEW_TOKENS)
        preemptions = next(
            metric.value for metric in llm.get_metrics() if metric.name == "vllm:num_preemptions"
        )
    assert preemptions > 0
    assert answers == expected_of("qwen3-next")


def test_what_a_step_takes_besides_the_pool_was_measured(checkpoint, monkeypatch):
    """On a card what vLLM's profiling run did not take is missing under load."""
    requests, tokens = 64, 256
    state_bytes = 8 * 64 * 64 * 4
    profiled = Allocations()
    determine = KunlunWorker.determine_available_memory

    def measured(worker):
        with profiled:
            return determine(worker)

    monkeypatch.setattr(KunlunWorker, "determine_available_memory", measured)
    longest = tokens - requests + 1
    with engine(
        checkpoint("qwen3-next-long-blocks"),
        max_num_seqs=requests,
        max_num_batched_tokens=tokens,
        max_model_len=320,
        **MEASURED,
    ) as llm:
        greedy(llm, [[5]], 2)
        for lengths in ([4] * requests, [1] * (requests - 1) + [longest], [tokens], [1, 250]):
            with Allocations() as step:
                greedy(llm, [[5] * length for length in lengths], 3)
            assert step.peak_bytes <= 1.02 * profiled.peak_bytes
            # The states of all requests are in the pool: nothing else was made for them to stay.
            assert step.left_bytes < state_bytes
            if len(lengths) == requests:
                assert step.peak_bytes > 4 * requests * state_bytes, "copies of states show"
    assert profiled.left_bytes < state_bytes


def test_tensor_parallel_equals_one_rank(checkpoint, prompts, expected_of, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with engine(checkpoint("qwen3-next"), tensor_parallel_size=2) as llm:
        assert greedy(llm, prompts, NEW_TOKENS) == expected_of("qwen3-next")


@pytest.mark.slow
def test_four_thousand_tokens_in_pieces_equal_the_whole(tmp_path):
    configuration = copy.deepcopy(HYBRID_CONFIGURATIONS["qwen3-next"])
    configuration.max_position_embeddings = 8192
    folder = checkpoints.write_configuration(configuration, tmp_path / "model")
    generator = torch.Generator().manual_seed(3)
    prompt = torch.randint(3, VOCABULARY, (4096,), generator=generator).tolist()
    answers = []
    for budget in (8192, 500):
        with engine(folder, max_model_len=4200, max_num_batched_tokens=budget) as llm:
            answers.append(greedy_with_logprobs(llm, [prompt], NEW_TOKENS)[0])
    tokens, logprobs = answers[0]
    best, expected = Reference(folder).judge(prompt, tokens)
    assert answers[1][0] == tokens == best
    for came in (logprobs, answers[1][1]):
        torch.testing.assert_close(torch.tensor(came), expected, atol=1e-3, rtol=0)
