# SPDX-License-Identifier: Apache-2.0
"""Packed weights (AWQ, GPTQ, compressed-tensors) through the engine against HF transformers.

The reference holds the dequantised weights of the same checkpoint and runs in float32, and so does
the engine: nothing but rounding may lie between the two.
"""

from __future__ import annotations

import pytest
import torch
from support import quantised, smollm2
from support.engine import engine, greedy_with_logprobs
from support.quantised import Scheme
from support.reference import Reference
from transformers import AutoTokenizer

NEW_TOKENS = 16
LOGPROB_TOLERANCE = 1e-3

TEXTS = [
    "Hi",
    "The capital of France is",
    "def fibonacci(n):",
    "The quick brown fox jumps over the lazy dog. " * 30,
]

SCHEMES = {
    "awq": Scheme("awq", group=64),
    "gptq-4": Scheme("gptq", group=64),
    "gptq-8": Scheme("gptq", bits=8, group=64, symmetric=True),
    "gptq-4-desc-act": Scheme("gptq", group=64, desc_act=True, symmetric=True),
    "gptq-4-desc-act-one-group": Scheme("gptq", group=-1, desc_act=True),
    "gptq-v2": Scheme("gptq_v2", group=64),
    "w4a16": Scheme("compressed-tensors", group=64, symmetric=True),
    "w4a16-zero-points": Scheme("compressed-tensors", group=64),
    "w4a16-channel": Scheme("compressed-tensors", group=-1, symmetric=True),
    "w4a16-act-order": Scheme("compressed-tensors", group=64, desc_act=True, symmetric=True),
    "w8a16": Scheme("compressed-tensors", bits=8, group=64, symmetric=True),
}


@pytest.fixture(scope="module")
def texts():
    tokenizer = AutoTokenizer.from_pretrained(smollm2.checkpoint())
    return [tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("name", SCHEMES)
def test_real_weights_equal_the_dequantised_reference(name, texts, tmp_path):
    packed, plain = quantised.write(smollm2.checkpoint(), tmp_path, SCHEMES[name])
    reference = Reference(plain)
    with engine(
        packed,
        enforce_eager=name not in ("awq", "gptq-4"),
        max_model_len=512,
        kv_cache_memory_bytes=256 * 2**20,
    ) as llm:
        answers = greedy_with_logprobs(llm, texts, NEW_TOKENS)
    agree(reference, texts, answers)


def agree(reference, prompts, answers):
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        greedy_tokens, expected = reference.judge(prompt, tokens)
        assert tokens == greedy_tokens
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=LOGPROB_TOLERANCE, rtol=0)


SKIPPED = ("lm_head", "mlp.gate.")
TINY = {
    "awq": Scheme("awq", group=16, skipped=SKIPPED),
    "gptq-4": Scheme("gptq_v2", group=16, skipped=SKIPPED),
    "gptq-8": Scheme("gptq", bits=8, group=16, skipped=SKIPPED, symmetric=True),
    "gptq-desc-act": Scheme("gptq", group=16, skipped=SKIPPED, desc_act=True, symmetric=True),
    "w4a16": Scheme("compressed-tensors", group=16, skipped=SKIPPED, symmetric=True),
    "w4a16-zero-points": Scheme("compressed-tensors", group=16, skipped=SKIPPED),
    "w4a16-channel": Scheme("compressed-tensors", group=-1, skipped=SKIPPED, symmetric=True),
}


@pytest.mark.parametrize("name", TINY)
def test_experts_equal_the_dequantised_reference(name, checkpoint, prompts, tmp_path):
    """Ten prompts dequantise all experts; a single one's decode only those that it chose."""
    packed, plain = quantised.write(checkpoint("qwen3-moe-even"), tmp_path, TINY[name])
    reference = Reference(plain)
    with engine(packed) as llm:
        agree(reference, prompts, greedy_with_logprobs(llm, prompts, NEW_TOKENS))
        agree(reference, prompts[3:4], greedy_with_logprobs(llm, prompts[3:4], NEW_TOKENS))


@pytest.mark.parametrize("expert_parallel", [False, True], ids=["tp2", "ep2"])
@pytest.mark.parametrize("name", ["awq", "gptq-4", "gptq-8", "w4a16", "w4a16-channel"])
def test_experts_on_two_ranks(name, expert_parallel, checkpoint, prompts, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    packed, plain = quantised.write(checkpoint("qwen3-moe-even"), tmp_path, TINY[name])
    reference = Reference(plain)
    with engine(packed, tensor_parallel_size=2, enable_expert_parallel=expert_parallel) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    agree(reference, prompts, answers)


@pytest.mark.parametrize("method", ["gptq", "compressed-tensors"])
def test_order_of_activations_on_two_ranks(method, checkpoint, prompts, tmp_path, monkeypatch):
    """A rank of a layer split along its inputs holds unequal parts of the groups."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    scheme = Scheme(method, group=16, desc_act=True, symmetric=True)
    packed, plain = quantised.write(checkpoint("llama-even"), tmp_path, scheme)
    reference = Reference(plain)
    with engine(packed, tensor_parallel_size=2) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    agree(reference, prompts, answers)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_half_precision_stays_near_the_reference(method, dtype, checkpoint, prompts, tmp_path):
    """Log-probabilities of the tokens that were chosen; the tokens may part where two are close."""
    packed, plain = quantised.write(checkpoint("llama-even"), tmp_path, Scheme(method, group=16))
    reference = Reference(plain)
    with engine(packed, dtype=dtype) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    tolerance = 0.03 if dtype == "float16" else 0.25
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        _, expected = reference.judge(prompt, tokens)
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=tolerance, rtol=0)
