# SPDX-License-Identifier: Apache-2.0
"""Equalities of latent attention through the engine; HF transformers has the answers.

Tokens and log-probabilities of each configuration are in ``test_parity.py``.
"""

from __future__ import annotations

import json

import pytest
import torch
from support import checkpoints
from support.checkpoints import VOCABULARY
from support.engine import engine, greedy, greedy_with_logprobs
from support.reference import Reference
from vllm import SamplingParams

from vllm_kunlun.mla import metadata as mla_metadata
from vllm_kunlun.mla.metadata import FlashMLAMetadataBuilder

pytestmark = pytest.mark.slow

NEW_TOKENS = 12


@pytest.fixture(scope="module")
def long_prompts(prompts) -> list[list[int]]:
    """Prompts of up to 230 tokens, with contexts of several pages."""
    generator = torch.Generator().manual_seed(11)
    lengths = [230, 64, 129, 200]
    return [
        *prompts[:3],
        *(torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths),
    ]


@pytest.fixture(scope="module", params=["deepseek-v2", "deepseek-v3"])
def model(request, checkpoint):
    return checkpoint(request.param)


@pytest.fixture(scope="module")
def expected(model, long_prompts):
    reference = Reference(model)
    return [reference.greedy(prompt, NEW_TOKENS) for prompt in long_prompts]


def test_kimi_k2_is_deepseek_v3_under_a_configuration_of_its_own(tmp_path, prompts):
    """Its checkpoints name V3's architecture and carry a Python file for the configuration."""
    folder = checkpoints.write("deepseek-v3-plain", tmp_path / "model")
    reference = Reference(folder)
    described = json.loads((folder / "config.json").read_text())
    described |= {
        "model_type": "kimi_k2",
        "auto_map": {"AutoConfig": "configuration_kimi.KimiConfig"},
    }
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "configuration_kimi.py").write_text(
        "from transformers import DeepseekV3Config\n"
        "class KimiConfig(DeepseekV3Config):\n    model_type = 'kimi_k2'\n"
    )
    with engine(folder, trust_remote_code=True) as llm:
        answers = greedy(llm, prompts, NEW_TOKENS)
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]


def test_one_at_a_time_equals_a_batch(model, long_prompts, expected):
    with engine(model) as llm:
        assert [greedy(llm, [prompt], NEW_TOKENS)[0] for prompt in long_prompts] == expected
        assert greedy(llm, long_prompts, NEW_TOKENS) == expected


def test_prefix_cache_hits_change_nothing(model, long_prompts, expected):
    with engine(model, enable_prefix_caching=True) as llm:
        assert greedy(llm, long_prompts, NEW_TOKENS) == expected
        again = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in long_prompts],
            SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False),
            use_tqdm=False,
        )
    assert [list(output.outputs[0].token_ids) for output in again] == expected
    assert sum(output.num_cached_tokens for output in again) > 0


def test_several_chunks_of_context_equal_a_whole_prefill(
    model, long_prompts, expected, monkeypatch
):
    """Prompts in pieces of 48 tokens, their context read 64 tokens at a time."""
    read: list[int] = []
    monkeypatch.setattr(mla_metadata, "context_capacity_tokens", lambda config: 64)
    original = FlashMLAMetadataBuilder._context

    def counted(builder, part):
        chunks = original(builder, part)
        read.append(len(chunks))
        return chunks

    monkeypatch.setattr(FlashMLAMetadataBuilder, "_context", counted)
    with engine(
        model, enable_chunked_prefill=True, max_num_batched_tokens=48, enable_prefix_caching=False
    ) as llm:
        assert greedy(llm, long_prompts, NEW_TOKENS) == expected
    assert max(read) >= 3


def test_preempted_requests_end_the_same(model, crowd):
    # A page for each request and one to spare: some are thrown out and start again.
    reference = Reference(model)
    with engine(model, num_gpu_blocks_override=10, disable_log_stats=False) as llm:
        answers = greedy(llm, crowd, NEW_TOKENS)
        preemptions = next(
            metric.value for metric in llm.get_metrics() if metric.name == "vllm:num_preemptions"
        )
    assert answers == [reference.greedy(prompt, NEW_TOKENS) for prompt in crowd]
    assert preemptions > 0


def test_compiled_equals_eager(model, long_prompts, expected):
    with engine(model, enforce_eager=False) as llm:
        assert llm.llm_engine.vllm_config.compilation_config.mode.name == "VLLM_COMPILE"
        assert greedy(llm, long_prompts, NEW_TOKENS) == expected


@pytest.mark.parametrize("expert_parallel", [False, True], ids=["tp2", "ep2"])
def test_two_ranks_equal_one(model, long_prompts, expected, expert_parallel, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with engine(model, tensor_parallel_size=2, enable_expert_parallel=expert_parallel) as llm:
        assert greedy(llm, long_prompts, NEW_TOKENS) == expected


def _runner(llm):
    return llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner


def test_the_cache_holds_one_latent_row_a_token(checkpoint):
    """576 numbers a layer, where full heads would need 4 x (192 + 128)."""
    with engine(checkpoint("deepseek-v3")) as llm:
        caches = _runner(llm).kv_caches
        blocks = llm.llm_engine.vllm_config.cache_config.num_gpu_blocks
        bytes_per_token = sum(cache.nbytes for cache in caches) / (blocks * 64)
    assert len(caches) == 2
    assert bytes_per_token == 2 * (512 + 64) * 4


def test_int8_products_are_near_transformers(checkpoint, prompts, monkeypatch):
    """Decode multiplies by rounded weights: close, and not the same."""
    monkeypatch.setenv("VLLM_KUNLUN_ENABLE_INT8_BMM", "1")
    folder = checkpoint("deepseek-v3")
    reference = Reference(folder)
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    error = 0.0
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        _, expected = reference.judge(prompt, tokens)
        error = max(error, float((torch.tensor(logprobs) - expected).abs().max()))
    print(f"largest log-probability difference with int8 products: {error:.4f}")
    assert 3e-3 < error < 0.3
