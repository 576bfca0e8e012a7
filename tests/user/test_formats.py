# SPDX-License-Identifier: Apache-2.0
"""Quantised checkpoints as users have them: right, or refused by name before a weight is read."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from support import checkpoints, formats, quantised, w8a8
from support.agreement import assert_agrees
from support.engine import engine, greedy_with_logprobs
from support.loading import load
from support.reference import Reference
from transformers import GPTBigCodeConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.quantization import QuantizationMethods

NEW_TOKENS = 12
TOLERANCE = 1e-3


@pytest.mark.parametrize("name", formats.PACKED)
def test_each_layer_is_the_dequantised_one(name, checkpoint, tmp_path):
    made = formats.PACKED[name]
    packed, plain = formats.write(checkpoint(made.model), tmp_path, made)
    check_layers(packed, plain, 4 * 3 + 1, **made.options)


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_layers_that_are_fused_in_the_file(method, tmp_path):
    """GPT-BigCode, whose queries, key and value are one tensor."""
    sizes = {"n_embd": 96, "n_head": 3, "n_layer": 2, "n_inner": 192, "n_positions": 256}
    source = checkpoints.write_configuration(
        GPTBigCodeConfig(vocab_size=320, tie_word_embeddings=False, **sizes), tmp_path / "source"
    )
    packed, plain = quantised.write(source, tmp_path, quantised.Scheme(method, group=16))
    check_layers(packed, plain, 4 * 2 + 1)


def check_layers(packed, plain, count, **options):
    model, looks = load(packed, **options)
    assert looks == [False]
    weights = load_file(plain / "model.safetensors")
    for layer, names in whole(model, count):
        weight = torch.cat([weights[f"{name}.weight"] for name in names]).double()
        x = inputs(weight.shape[1])
        out, expected = layer.quant_method.apply(layer, x), x.double() @ weight.T
        size = x.double().abs() @ weight.abs().T
        assert ((out[:, : len(weight)] - expected).abs() <= 2e-6 * size).all(), names


@pytest.mark.parametrize("name", formats.W8A8)
def test_each_layer_is_the_one_of_int8(name, checkpoint, prompts, tmp_path):
    source, scheme = checkpoint("llama-even"), formats.W8A8[name]
    folder = w8a8.quantise(source, tmp_path, scheme, prompts)
    reference = w8a8.reference_model(source, folder, scheme)
    model, looks = load(folder)
    assert looks == [False]
    for layer, names in whole(model, 4 * 3 + 1):
        theirs = [reference.get_submodule(name) for name in names]
        x = inputs(theirs[0].in_features)
        out, expected = (
            layer.quant_method.apply(layer, x),
            torch.cat([each(x) for each in theirs], 1),
        )
        # An input half-way between two steps may be rounded to either.
        largest = max(each.weight.abs().max() for each in theirs)
        one_step = x.abs().max() / 127 * largest if not scheme.static else 0.2 * largest
        assert ((out[:, : expected.shape[1]] - expected).abs() <= 1.1 * one_step).all(), names


def whole(model, count):
    found = list(formats.layers(model).values())
    assert len(found) == count
    return found


def inputs(width):
    return torch.randn(5, width, generator=torch.Generator().manual_seed(0))


SOME = ["awq-head", "w4a16-two-kinds-in-one", "gptq-dynamic-without-q", "auto-round-layers"]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == SOME[0] else pytest.mark.slow) for n in SOME]
)
def test_tokens_are_those_of_the_dequantised_reference(name, checkpoint, prompts, tmp_path):
    made = formats.PACKED[name]
    packed, plain = formats.write(checkpoint(made.model), tmp_path, made)
    with engine(packed, **made.options) as llm:
        agree(Reference(plain), prompts, greedy_with_logprobs(llm, prompts, NEW_TOKENS))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["awq-head", "gptq-dynamic-8-bits-in-q", "w4a16-without-k"])
def test_two_ranks(name, checkpoint, prompts, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    made = formats.PACKED[name]
    packed, plain = formats.write(checkpoint(made.model), tmp_path, made)
    with engine(packed, tensor_parallel_size=2) as llm:
        agree(Reference(plain), prompts, greedy_with_logprobs(llm, prompts, NEW_TOKENS))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gptq-dynamic-without-q", "w4a16-head"])
def test_with_room_for_adapters(name, checkpoint, prompts, tmp_path):
    made = formats.PACKED[name]
    packed, plain = formats.write(checkpoint(made.model), tmp_path, made)
    with engine(packed, enable_lora=True) as llm:
        agree(Reference(plain), prompts, greedy_with_logprobs(llm, prompts, NEW_TOKENS))


@pytest.mark.slow
@pytest.mark.parametrize("name", formats.W8A8)
def test_int8_tokens(name, checkpoint, prompts, tmp_path):
    source, scheme = checkpoint("llama-even"), formats.W8A8[name]
    folder = w8a8.quantise(source, tmp_path, scheme, prompts)
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    assert_agrees(
        prompts,
        answers,
        w8a8.reference_model(source, folder, scheme),
        w8a8.reference_model(source, folder, scheme, quantise_activations=False),
    )


def agree(reference, prompts, answers):
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        expected_tokens, expected = reference.judge(prompt, tokens)
        assert tokens == expected_tokens
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=TOLERANCE, rtol=0)


def configure(folder, **options):
    EngineArgs(
        model=str(folder), skip_tokenizer_init=True, dtype="float32", max_model_len=64, **options
    ).create_engine_config()


@pytest.mark.parametrize("name", formats.REFUSED)
def test_what_does_not_run_is_refused_by_name(name, checkpoint, tmp_path):
    scheme, change, sentence = formats.REFUSED[name]
    packed, _ = quantised.write(checkpoint("llama-even"), tmp_path, scheme)
    change(packed)
    with pytest.raises(ValueError, match=f"(?s){sentence}"):
        configure(packed)


RUNS = {"awq", "awq_marlin", "compressed-tensors", "fp8", "gptq", "gptq_marlin", "inc", "moe_wna16",
        "mxfp4"}  # fmt: skip


@pytest.mark.parametrize("method", sorted(set(get_args(QuantizationMethods)) - RUNS))
def test_each_other_method_of_vllms_is_refused_by_name(method, checkpoint):
    with pytest.raises(ValueError, match=f"quantization='{method}' .*(Use|Leave|Export) "):
        configure(checkpoint("llama-even"), quantization=method)
