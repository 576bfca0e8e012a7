# SPDX-License-Identifier: Apache-2.0
"""Shapes of packed tensors against what the configuration says of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.checkpoint import packed

# 128 inputs in groups of 32, 64 outputs.
AWQ = {"m.qweight": (128, 8), "m.qzeros": (4, 8), "m.scales": (4, 64)}
GPTQ = {"m.qweight": (16, 64), "m.qzeros": (4, 8), "m.scales": (4, 64), "m.g_idx": (128,)}
PACKED = {
    "m.weight_packed": (64, 16),
    "m.weight_scale": (64, 4),
    "m.weight_zero_point": (8, 4),
}
CHECKPOINTS = {"awq": AWQ, "gptq": GPTQ, "compressed-tensors": PACKED}


def check(method, shapes, monkeypatch, group_size=32, desc_act=True, dynamic=None):
    found = {name: {"shape": list(shape)} for name, shape in shapes.items()}
    monkeypatch.setattr(packed, "get_safetensors_params_metadata", lambda *a, **k: found)
    if method == "awq":
        packed.check_awq(packed.shapes_of("folder", None), group_size)
    elif method == "gptq":
        config = SimpleNamespace(
            dynamic=dynamic or {}, weight_bits=4, group_size=group_size, desc_act=desc_act
        )
        packed.check_gptq(packed.shapes_of("folder", None), config)
    else:
        weights = SimpleNamespace(num_bits=4, group_size=group_size, symmetric=False)
        packed.check_compressed_tensors(
            packed.shapes_of("folder", None), {"Linear": {"weights": weights}}
        )


@pytest.mark.parametrize("method", CHECKPOINTS)
def test_a_whole_checkpoint_passes(method, monkeypatch):
    check(method, CHECKPOINTS[method], monkeypatch)


MISSING = [(m, name) for m, shapes in CHECKPOINTS.items() for name in list(shapes)[1:]]


@pytest.mark.parametrize(("method", "name"), MISSING)
def test_a_missing_tensor_is_named(method, name, monkeypatch):
    left = {key: shape for key, shape in CHECKPOINTS[method].items() if key != name}
    with pytest.raises(CheckpointError, match=f"^{name} is missing"):
        check(method, left, monkeypatch)


@pytest.mark.parametrize(("method", "name"), MISSING)
def test_another_shape_is_named_with_what_was_expected(method, name, monkeypatch):
    expected = CHECKPOINTS[method][name]
    shapes = {**CHECKPOINTS[method], name: (*expected[:-1], expected[-1] + 1)}
    with pytest.raises(CheckpointError, match=rf"^{name} is of shape .*\[.*{expected[-1]}\] is"):
        check(method, shapes, monkeypatch)


@pytest.mark.parametrize("method", CHECKPOINTS)
@pytest.mark.parametrize("group_size", [48, 0])
def test_groups_that_do_not_divide_the_inputs_are_named(method, group_size, monkeypatch):
    if method == "compressed-tensors" and group_size == 0:
        group_size = 56  # there 0 is the word for one group of all inputs
    with pytest.raises(CheckpointError, match=f"m: 128 inputs .* groups of {group_size}"):
        check(method, CHECKPOINTS[method], monkeypatch, group_size=group_size)


def test_the_order_of_activations_is_asked_for_only_where_it_is_used(monkeypatch):
    left = {key: shape for key, shape in GPTQ.items() if key != "m.g_idx"}
    check("gptq", left, monkeypatch, desc_act=False)
    one_group = {**left, "m.qzeros": (1, 8), "m.scales": (1, 64)}
    check("gptq", one_group, monkeypatch, group_size=-1)


def test_two_kinds_of_packed_weights_are_not_judged(monkeypatch):
    monkeypatch.setattr(
        packed,
        "get_safetensors_params_metadata",
        lambda *a, **k: {"m.weight_packed": {"shape": [1]}},
    )
    kinds = [SimpleNamespace(num_bits=bits, group_size=32, symmetric=True) for bits in (4, 8)]
    schemes = {str(kind.num_bits): {"weights": kind} for kind in kinds}
    packed.check_compressed_tensors(packed.shapes_of("folder", None), schemes)


def test_scales_of_activation_functions_are_refused(monkeypatch):
    with pytest.raises(UnsupportedError, match=r"^h\.0\.act\.scales: AWQ moved scales"):
        check("awq", {**AWQ, "h.0.act.scales": (128,)}, monkeypatch)


def test_a_rule_that_leaves_out_a_packed_layer_is_named(monkeypatch):
    with pytest.raises(CheckpointError, match=r"^m is packed .*dynamic"):
        check("gptq", GPTQ, monkeypatch, dynamic={"-:m": {}})


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["a.q.qweight", "b.q.qweight", "lm_head.qweight", "norm.weight"], {"q", "lm_head"}),
        (["a.q.weight_packed", "a.q.weight_scale"], {"q"}),
        (["a.lm_head.weight", "a.lm_head.weight_scale"], {"lm_head"}),
        (["a.q.weight"], set()),
    ],
)
def test_kinds_of_quantised_layers(names, kinds, monkeypatch):
    found = {name: {"shape": [1]} for name in names}
    monkeypatch.setattr(packed, "get_safetensors_params_metadata", lambda *a, **k: found)
    assert packed.quantised_kinds(packed.shapes_of("folder", None)) == kinds


def test_a_lost_file_is_named_before_the_tensors_that_were_in_it(tmp_path):
    save_file({"m.qweight": torch.zeros(128, 8)}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(UnsupportedError, match=r"lacks 1 .*model-00002-of-00002\.safetensors"):
        packed.check_awq(packed.shapes_of(str(tmp_path), None), 32)
