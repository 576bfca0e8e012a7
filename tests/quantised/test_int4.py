# SPDX-License-Identifier: Apache-2.0
"""Packed weights (AWQ, GPTQ, compressed-tensors) through the engine against HF transformers.

The reference holds the dequantised weights of the same checkpoint and runs in float32, and so does
the engine: nothing but rounding may lie between the two.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import quantised, smollm2
from support.engine import engine, greedy_with_logprobs
from support.quantised import Scheme
from support.reference import Reference
from transformers import AutoTokenizer

pytestmark = pytest.mark.slow

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


TINY = {
    "awq": Scheme("awq", group=16),
    "gptq-4": Scheme("gptq_v2", group=16),
    "gptq-8": Scheme("gptq", bits=8, group=16, symmetric=True),
    "gptq-desc-act": Scheme("gptq", group=16, desc_act=True, symmetric=True),
    "w4a16": Scheme("compressed-tensors", group=16, symmetric=True),
    "w4a16-zero-points": Scheme("compressed-tensors", group=16),
    "w4a16-channel": Scheme("compressed-tensors", group=-1, symmetric=True),
}


@pytest.mark.parametrize("name", TINY)
def test_experts_equal_the_dequantised_reference(name, checkpoint, prompts, tmp_path):
    """Ten prompts dequantise all experts; a single one's decode only those that it chose."""
    packed, plain = quantised.write(checkpoint("qwen3-moe-even"), tmp_path, TINY[name])
    reference = Reference(plain)
    with engine(packed) as llm:
        agree(reference, prompts, greedy_with_logprobs(llm, prompts, NEW_TOKENS))
        agree(reference, prompts[3:4], greedy_with_logprobs(llm, prompts[3:4], NEW_TOKENS))


@pytest.mark.parametrize("name", ["awq", "gptq-4", "w4a16"])
@pytest.mark.parametrize("ranks", ["one", "tp2", "ep2"])
def test_latent_attention_and_grouped_experts(
    name, ranks, checkpoint, prompts, tmp_path, monkeypatch
):
    """A DeepSeek-V3: ``kv_b_proj`` is packed too, and multiplied out for the absorbed products."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0" if ranks == "one" else "1")
    packed, plain = quantised.write(checkpoint("deepseek-v3-even"), tmp_path, TINY[name])
    reference = Reference(plain)
    parallel = {"tensor_parallel_size": 2, "enable_expert_parallel": ranks == "ep2"}
    with engine(packed, **({} if ranks == "one" else parallel)) as llm:
        agree(reference, prompts, greedy_with_logprobs(llm, prompts, NEW_TOKENS))


def test_moe_wna16_is_another_name(checkpoint, prompts, tmp_path):
    packed, plain = quantised.write(checkpoint("qwen3-moe-even"), tmp_path, TINY["awq"])
    reference = Reference(plain)
    with engine(packed, quantization="moe_wna16") as llm:
        agree(reference, prompts, greedy_with_logprobs(llm, prompts, NEW_TOKENS))


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


KEY = "model.layers.1.mlp.down_proj."


def damage(folder, settings=None, tensors=None):
    """Change entries of the quantisation configuration, and tensors (None: leave it out)."""
    configuration = json.loads((folder / "config.json").read_text())
    configuration["quantization_config"].update(settings or {})
    (folder / "config.json").write_text(json.dumps(configuration))
    found = load_file(folder / "model.safetensors")
    for name, change in (tensors or {}).items():
        value = change(found.pop(KEY + name))
        if value is not None:
            found[KEY + name] = value
    save_file(found, folder / "model.safetensors", {"format": "pt"})


def spoil(scales):
    scales[0, 0] = torch.nan
    return scales


DAMAGE = {
    "wrong-group-size": ("awq", {"group_size": 32}, {}, "groups of 32"),
    "groups-do-not-divide": ("gptq", {"group_size": 48}, {}, "do not divide into groups of 48"),
    "odd-shape": ("gptq", {}, {"qzeros": lambda t: t[:, :-1].clone()}, "qzeros is of shape"),
    "missing-scales": ("awq", {}, {"scales": lambda t: None}, "down_proj.scales is missing"),
    "missing-zeros": ("gptq", {}, {"qzeros": lambda t: None}, "down_proj.qzeros is missing"),
    "missing-packed-scale": (
        "compressed-tensors", {}, {"weight_scale": lambda t: None}, "weight_scale is missing",
    ),
    "nan-awq": ("awq", {}, {"scales": spoil}, "layers.1.mlp.down_proj: a scale is"),
    "nan-gptq": ("gptq", {}, {"scales": spoil}, "layers.1.mlp.down_proj: a scale is"),
    "nan-packed": (
        "compressed-tensors", {}, {"weight_scale": spoil}, "down_proj: a scale is",
    ),
    "unknown-awq-format": ("awq", {"version": "gemv"}, {}, "only 'gemm' is implemented"),
    "unknown-gptq-format": ("gptq", {"checkpoint_format": "marlin"}, {}, "'gptq' and 'gptq_v2'"),
    "awq-bits": ("awq", {"bits": 8}, {}, "AWQ with 8 bits"),
    "gptq-bits": ("gptq", {"bits": 3}, {}, "GPTQ with 3 bits"),
    "hidden-order": ("gptq", {}, {"g_idx": lambda t: t.flip(0)}, "desc_act=false"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_bad_checkpoint_is_one_clear_error_at_load(name, checkpoint, tmp_path):
    method, settings, tensors, message = DAMAGE[name]
    packed, _ = quantised.write(checkpoint("llama-even"), tmp_path, Scheme(method, group=16))
    damage(packed, settings, tensors)
    with pytest.raises(Exception, match=message), engine(packed):
        pass


@pytest.mark.parametrize("method", ["awq", "gptq", "compressed-tensors"])
def test_packed_weights_take_less_than_a_third_of_float16(method, tmp_path):
    """Linear layers of real weights as the engine holds them, scales and zeros counted."""
    packed, _ = quantised.write(smollm2.checkpoint(), tmp_path, Scheme(method, group=128 // 2))
    with engine(packed, dtype="float16", max_model_len=64) as llm:
        found = llm.apply_model(_linear_bytes)[0]
    with engine(smollm2.checkpoint(), dtype="float16", max_model_len=64) as llm:
        plain = llm.apply_model(_linear_bytes)[0]
    print(f"{method}: {found / 2**20:.1f} MiB against {plain / 2**20:.1f} MiB in float16")
    assert found < 0.3 * plain


def _linear_bytes(model):
    from vllm.model_executor.layers.linear import LinearBase

    layers = [m for m in model.modules() if isinstance(m, LinearBase)]
    return sum(p.numel() * p.element_size() for m in layers for p in m.parameters())
