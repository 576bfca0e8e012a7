# SPDX-License-Identifier: Apache-2.0
"""INT8 W8A8 through the engine, against HF with the same weights and activations rounded alike."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from support import smollm2, text, w8a8
from support.agreement import assert_agrees
from support.engine import engine, greedy_with_logprobs
from support.reference import judgement
from support.w8a8 import Scheme
from transformers import AutoTokenizer

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError

pytestmark = pytest.mark.slow

NEW_TOKENS = 12

SCHEMES = {
    "dynamic": Scheme(),
    "dynamic-tensor": Scheme(weights="tensor"),
    "dynamic-asymmetric": Scheme(symmetric=False),
    "static": Scheme(static=True),
    "static-asymmetric-tensor": Scheme(weights="tensor", static=True, symmetric=False),
}


@pytest.fixture(scope="module")
def quantised(checkpoint, prompts, tmp_path_factory):
    """``quantised(name, scheme)``: source and W8A8 folder of a tiny model."""
    made: dict[tuple[str, Scheme], tuple[Path, Path]] = {}

    def make(name: str, scheme: Scheme) -> tuple[Path, Path]:
        if (name, scheme) not in made:
            folder = tmp_path_factory.mktemp(f"{name}-w8a8")
            source = checkpoint(name)
            made[name, scheme] = source, w8a8.quantise(source, folder, scheme, prompts)
        return made[name, scheme]

    return make


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
def test_dense_with_bias_and_fused_layers(scheme, quantised, prompts):
    """Qwen2: biases, and q, k, v and gate, up of different scales in one layer."""
    source, folder = quantised("qwen2", scheme)
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    assert_agrees(
        prompts,
        answers,
        w8a8.reference_model(source, folder, scheme),
        w8a8.reference_model(source, folder, scheme, quantise_activations=False),
    )


REAL_SCHEMES = {
    "dynamic": Scheme(),
    # One scale for all tokens does not fit the inputs of down_proj: of SmolLM2's some are a
    # thousand times as large as the rest. Such layers are left in float, as in practice.
    "static": Scheme(static=True, keep=(*Scheme().keep, "down_proj")),
}


@pytest.fixture(scope="module")
def manual():
    """512-token pieces of running text: 8 to judge by, 8 shorter ones to calibrate with."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2.checkpoint())
    whole = text.manual()
    judged = text.windows(tokenizer(whole[:60_000])["input_ids"], 512, 8)
    return judged, text.windows(tokenizer(whole[300_000:320_000])["input_ids"], 256, 8)


@pytest.fixture(scope="module")
def in_float(manual):
    """SmolLM2's perplexity in float32."""
    found = _log_probabilities(w8a8.float_model(smollm2.checkpoint()), manual[0])
    return (-found.mean()).exp().item()


@pytest.mark.weights
@pytest.mark.parametrize("name", REAL_SCHEMES)
def test_real_weights(name, manual, in_float, tmp_path):
    """SmolLM2: each quantised layer of a run computes the formula; perplexity on 4096 tokens.

    Over 30 layers, roundings that fall differently add up to all the noise that quantisation makes:
    HF's own log-probability of a token moves by as much when the text after it changes. So layers
    are compared one by one, on the inputs that they got, and the model by its perplexity.
    """
    scheme, source = REAL_SCHEMES[name], smollm2.checkpoint()
    pieces, calibration = manual
    folder = w8a8.quantise(source, tmp_path / "w8a8", scheme, calibration)
    options = {"max_model_len": 520, "kv_cache_memory_bytes": 512 * 2**20}
    with engine(folder, **options) as llm:
        seen = _record(llm)
        greedy_with_logprobs(llm, [pieces[0][:40], pieces[1][:7]], 4)
        _check_layers(seen, folder, scheme)
    with engine(folder, enforce_eager=False, **options) as llm:
        ours = torch.tensor(text.log_probabilities(llm, pieces))
    reference = w8a8.reference_model(source, folder, scheme, dtype=torch.float32)
    expected = _log_probabilities(reference, pieces)
    came = (-ours.mean()).exp().item()
    # Two draws of one noise: their means differ by chance alone.
    difference = ours - expected
    chance = difference.std() / len(difference) ** 0.5
    print(
        f"perplexity: float32 {in_float:.3f}, W8A8 {name} {came:.3f}, "
        f"HF's {(-expected.mean()).exp():.3f}; by chance {chance:.1%}"
    )
    assert difference.mean().abs() < 3 * chance
    assert chance < 0.015
    # One scale for all tokens, taken from the largest of a few: no good quantiser, so a wide bound.
    assert in_float < came < in_float * (1.2 if scheme.static else 1.1)


Seen = dict[str, list[tuple[torch.Tensor, torch.Tensor]]]


def _record(llm) -> Seen:
    """Inputs and outputs of all linear layers, by name, as the engine runs."""
    seen: Seen = {}

    def attach(model: torch.nn.Module) -> None:
        for layer, module in model.named_modules():
            if layer.endswith(("qkv_proj", "o_proj", "gate_up_proj", "down_proj")):
                seen[layer] = []
                module.register_forward_hook(
                    lambda _, inputs, output, into=seen[layer]: into.append(
                        (inputs[0].clone(), output[0].clone())
                    )
                )

    llm.apply_model(attach)
    return seen


FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def _check_layers(seen: Seen, folder: Path, scheme: Scheme) -> None:
    tensors = load_file(folder / "model.safetensors")
    checked = 0
    for layer, calls in seen.items():
        path, _, last = layer.rpartition(".")
        if last in scheme.keep:
            continue
        names = [f"{path}.{part}" for part in FUSED.get(last, (last,))]
        weight = torch.cat(
            [tensors[f"{n}.weight"].double() * tensors[f"{n}.weight_scale"] for n in names]
        )
        scale = tensors.get(f"{names[0]}.input_scale")
        formula = w8a8.QuantisedLinear(weight, None, scale)
        assert calls
        for x, came in calls:
            exact = formula(x.double())
            error = (came.double() - exact).abs()
            allowed = 1e-5 * exact.abs() + 1e-4 * exact.abs().mean()
            ties, step = _ties(x.double(), scale)
            assert (error <= allowed + step * ties.double() @ weight.abs().T).all(), layer
            assert ties.double().mean() < 1e-3, layer
            checked += 1
    # A prefill and three decode steps, 30 layers.
    assert checked == 4 * 30 * (4 if "down_proj" not in scheme.keep else 3)


def _ties(x: torch.Tensor, scale: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs so near the middle of two steps that float32 may round to either; and a step.

    Shapes: x float64 ``[M, K]``, scale ``[1]``, or None for a step of each row: ``[M, 1]``.
    """
    step = x.abs().amax(-1, keepdim=True) / 127 if scale is None else scale.double()
    steps = (x / step).abs()
    return (steps % 1 - 0.5).abs() < 1e-6 * steps.clamp(min=1), step


@torch.inference_mode()
def _log_probabilities(
    model: transformers.PreTrainedModel, pieces: Sequence[list[int]]
) -> torch.Tensor:
    """Of each token but a piece's first, piece after piece."""
    return torch.cat(
        [judgement(model(torch.tensor([piece])).logits[0, :-1], piece[1:])[1] for piece in pieces]
    )


# Decode multiplies by kv_b_proj's weights without rounding its input, prefill does round it: no
# reference that treats all tokens alike can be met closely, so this layer stays in float.
EXPERTS = {
    "qwen3-moe": Scheme(),
    "qwen2-moe": Scheme(),
    "glm4-moe": Scheme(),
    "deepseek-v3-even": Scheme(keep=(*Scheme().keep, "kv_b_proj")),
}


@pytest.mark.parametrize("name", EXPERTS)
def test_experts(name, quantised, prompts):
    """Softmax with and without renormalising, groups with a bias; shared experts, also gated."""
    scheme = EXPERTS[name]
    source, folder = quantised(name, scheme)
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    assert_agrees(
        prompts,
        answers,
        w8a8.reference_model(source, folder, scheme),
        w8a8.reference_model(source, folder, scheme, quantise_activations=False),
        tolerance=0.03,
    )


def test_the_absorbed_products_of_an_int8_layer(quantised):
    """Decode multiplies by what the int8 weights of DeepSeek's ``kv_b_proj`` stand for."""
    _, folder = quantised("deepseek-v3-even", Scheme())
    with engine(folder) as llm:
        found = llm.apply_model(_absorbed)[0]
    tensors = load_file(folder / "model.safetensors")
    for number, (keys, values) in enumerate(found):
        name = f"model.layers.{number}.self_attn.kv_b_proj.weight"
        exact = tensors[name].double() * tensors[f"{name}_scale"]
        by_head = exact.unflatten(0, (keys.shape[0], -1))  # [H, P + V, L]
        torch.testing.assert_close(keys.double(), by_head[:, : keys.shape[1]], rtol=0, atol=1e-5)
        torch.testing.assert_close(
            values.double(), by_head[:, keys.shape[1] :].mT, rtol=0, atol=1e-5
        )
    assert len(found) == 3


def _absorbed(model: torch.nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    layers = [m.impl.projections for m in model.modules() if hasattr(m, "impl")]
    return [(each._w_uk.clone(), each._w_uv.clone()) for each in layers]


def test_a_static_scale_on_the_absorbed_layer_is_refused(quantised):
    feed_forward = ("gate_proj", "up_proj", "down_proj")
    scheme = Scheme(static=True, keep=(*Scheme().keep, *feed_forward))
    _, folder = quantised("deepseek-v3-even", scheme)
    with pytest.raises(UnsupportedError, match=r"kv_b_proj .* static"), engine(folder):
        pass


@pytest.mark.parametrize("name", ["qwen3-moe", "deepseek-v3-even"])
@pytest.mark.parametrize("experts_whole", [False, True], ids=["tp2", "ep2"])
def test_two_ranks(name, experts_whole, quantised, prompts, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    scheme = EXPERTS[name]
    source, folder = quantised(name, scheme)
    with engine(folder, tensor_parallel_size=2, enable_expert_parallel=experts_whole) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    arguments = {"ranks": 2, "whole": lambda name: experts_whole and ".experts." in name}
    assert_agrees(
        prompts,
        answers,
        w8a8.reference_model(source, folder, scheme, **arguments),
        w8a8.reference_model(source, folder, scheme, quantise_activations=False),
        tolerance=0.03,
    )


def test_reloading_other_weights(checkpoint, quantised, prompts, tmp_path):
    """vLLM reloads without processing weights again: the scales must follow all the same."""
    scheme = SCHEMES["static-asymmetric-tensor"]
    _, first = quantised("qwen2", scheme)
    folder = w8a8.quantise(checkpoint("qwen2"), tmp_path / "second", scheme, prompts, _rescaled)
    with engine(folder) as llm:
        expected = greedy_with_logprobs(llm, prompts, 4)
    with engine(first) as llm:
        before = greedy_with_logprobs(llm, prompts, 4)
        llm.collective_rpc("reload_weights")
        assert greedy_with_logprobs(llm, prompts, 4) == before
        llm.collective_rpc(_point_to, args=(str(folder),))
        llm.collective_rpc("reload_weights")
        llm.reset_prefix_cache()
        after = greedy_with_logprobs(llm, prompts, 4)
    assert after == expected
    assert after != before


def _rescaled(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(("weight_scale", "input_scale")):
            tensor *= 1.1
        elif tensor.dtype == torch.int8 and tensor.dim() > 1:
            tensors[name] = tensor.roll(1, 0).contiguous()


def _point_to(worker, folder: str) -> None:
    worker.model_runner.model_config.model = folder


def test_weights_take_half_of_float16(quantised):
    source, folder = quantised("qwen3-moe", Scheme())
    with engine(source, dtype="float16", enforce_eager=True) as llm:
        in_half = llm.apply_model(_bytes_of_projections)[0]
    with engine(folder, dtype="float16") as llm:
        in_int8 = llm.apply_model(_bytes_of_projections)[0]
    # One float32 scale and one maximum for each output channel of some 40 to 160 inputs.
    assert 0.5 * in_half < in_int8 < 0.7 * in_half


def _bytes_of_projections(model: torch.nn.Module) -> int:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return sum(
        tensor.untyped_storage().nbytes()
        for name, tensor in tensors
        if re.search(r"_proj\.|experts\.", name)
    )


def _drop(pattern: str):
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if re.search(pattern, name)]:
            del tensors[name]

    return change


def _edit(pattern: str, edit):
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if re.search(pattern, name)]:
            tensors[name] = edit(tensors[name]).contiguous()

    return change


BAD = {
    "no-scale": (
        _drop(r"1.self_attn.k_proj.weight_scale"),
        r"missing: model\.layers\.1\.self_attn\.k_proj\.weight_scale\.",
    ),
    "no-weight": (
        _drop(r"1.mlp.up_proj.weight$"),
        r"missing: model\.layers\.1\.mlp\.up_proj\.weight\.",
    ),
    "nan": (
        _edit(r"1.mlp.down_proj.weight_scale", lambda t: t * torch.nan),
        "layers.1.mlp.down_proj: weight_scale holds .* NaN",
    ),
    "shape": (
        _edit(r"0.self_attn.o_proj.weight$", lambda t: t[:, :-1]),
        r"layers.0.self_attn.o_proj: a tensor of shape \(192, 191\) does not fit",
    ),
    "scale-shape": (
        _edit(r"0.mlp.gate_proj.weight_scale", lambda t: t[:-3]),
        r"layers.0.mlp.gate_up_proj: a tensor of shape \(157, 1\) does not fit",
    ),
    "float": (
        _edit(r"2.self_attn.v_proj.weight$", lambda t: t.float()),
        "layers.2.self_attn.qkv_proj: .*torch.int8 .*torch.float32",
    ),
    "no-input-scale": (
        _drop(r"1.self_attn.q_proj.input_scale"),
        r"missing: model\.layers\.1\.self_attn\.q_proj\.input_scale\.",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_checkpoint_is_one_clear_error(fault, checkpoint, prompts, tmp_path):
    change, message = BAD[fault]
    scheme = Scheme(static=fault == "no-input-scale")
    folder = w8a8.quantise(checkpoint("qwen2"), tmp_path / "bad", scheme, prompts[:2], change)
    with pytest.raises(CheckpointError, match=message), engine(folder):
        pass


def test_experts_without_a_scale(checkpoint, tmp_path):
    change = _drop(r"layers.1.mlp.experts.5.up_proj.weight_scale")
    folder = w8a8.quantise(checkpoint("qwen3-moe"), tmp_path / "bad", Scheme(), (), change)
    missing = r"missing: model\.layers\.1\.mlp\.experts\.5\.up_proj\.weight_scale\."
    with pytest.raises(CheckpointError, match=missing), engine(folder):
        pass


def test_a_scheme_without_arithmetic_is_refused_by_name(quantised, tmp_path):
    _, folder = quantised("qwen2", Scheme())
    shutil.copytree(folder, tmp_path / "bad")
    described = json.loads((folder / "config.json").read_text())
    described["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 4
    (tmp_path / "bad" / "config.json").write_text(json.dumps(described))
    refused = pytest.raises(UnsupportedError, match=r"qkv_proj.*int8 \(W8A8\)")
    with refused, engine(tmp_path / "bad"):
        pass


def test_saved_tensors_are_what_the_quantiser_means(quantised):
    """The test's own quantiser: every weight within half a step of its float."""
    source, folder = quantised("qwen2", SCHEMES["dynamic"])
    floats = load_file(source / "model.safetensors")
    tensors = load_file(folder / "model.safetensors")
    scales = [name for name in tensors if name.endswith("weight_scale")]
    assert len(scales) == 3 * 7  # layers, and linear layers in each
    for name in scales:
        weight, scale = name.removesuffix("_scale"), tensors[name]
        error = tensors[weight].float() * scale - floats[weight]
        assert (error.abs() <= scale * 0.5001).all()
