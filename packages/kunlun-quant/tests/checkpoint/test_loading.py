# SPDX-License-Identifier: Apache-2.0
"""Marks of what was not loaded, loaders that name what does not fit, and what is derived."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.checkpoint import loading

pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.fixture
def layer() -> torch.nn.Module:
    """An int8 weight ``[2, 3]`` and a scale ``[2, 1]``, marked as not loaded."""
    made = torch.nn.Module()
    made.prefix = "m.layer"
    for name, data in (
        ("weight", torch.zeros(2, 3, dtype=torch.int8)),
        ("weight_scale", torch.zeros(2, 1)),
    ):
        loading.add_parameter(made, name, data, {"weight_loader": "the loader"})
    loading.mark_unloaded(made)
    return made


def copy(param: torch.nn.Parameter, loaded: torch.Tensor) -> None:
    param.data.copy_(loaded)


def fill(layer: torch.nn.Module) -> None:
    layer.weight.data.copy_(torch.ones(2, 3))
    layer.weight_scale.data.copy_(torch.ones(2, 1))


def test_a_parameter_carries_the_loaders_attributes(layer):
    assert layer.weight.weight_loader == "the loader"
    assert not layer.weight.requires_grad


def test_what_was_loaded_passes(layer):
    fill(layer)
    loading.check_weight(layer, "weight")
    loading.check_scale(layer, "weight_scale", zero=False)


@pytest.mark.parametrize("row", [0, 1])
def test_one_row_that_was_not_loaded_is_missing(layer, row):
    fresh_weight, fresh_scale = layer.weight[row].clone(), layer.weight_scale[row].clone()
    fill(layer)
    layer.weight.data[row] = fresh_weight
    with pytest.raises(CheckpointError, match=r"m.layer: weight is missing"):
        loading.check_weight(layer, "weight")
    layer.weight_scale.data[row] = fresh_scale
    with pytest.raises(CheckpointError, match=r"m.layer: weight_scale is missing"):
        loading.check_scale(layer, "weight_scale")


@pytest.mark.parametrize(
    ("value", "zero", "refused"),
    [(0.0, True, False), (0.0, False, True), (-0.5, True, True), (torch.nan, True, True),
     (torch.inf, True, True)],
)  # fmt: skip
def test_which_scales_pass(layer, value, zero, refused):
    fill(layer)
    layer.weight_scale.data[1] = value
    if not refused:
        loading.check_scale(layer, "weight_scale", zero=zero)
        return
    with pytest.raises(CheckpointError, match=r"m.layer: weight_scale holds 1 of 2 values"):
        loading.check_scale(layer, "weight_scale", zero=zero)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_no_numbers_are_named(layer, bad):
    loading.check_numbers(layer, "weight", torch.ones(3))
    with pytest.raises(CheckpointError, match=r"m.layer: weight is missing .* or holds NaN"):
        loading.check_numbers(layer, "weight", torch.tensor([1.0, bad, 2.0]))


def test_dummy_weights_are_not_judged(layer):
    layer.from_checkpoint = False
    loading.check_weight(layer, "weight")
    loading.check_scale(layer, "weight_scale")
    loading.check_numbers(layer, "weight", torch.tensor(torch.nan))


def test_loads_after_the_first_processing_derive_again(layer):
    seen = []
    load = loading.checked_loader(layer, copy, seen.append)
    load(layer.weight_scale, torch.ones(2, 1))
    assert seen == []
    loading.derive(layer, "int8_max", layer.weight_scale.data)
    load(layer.weight_scale, torch.ones(2, 1))
    assert seen == [layer]


def test_what_was_converted_cannot_be_loaded_again(layer):
    load = loading.checked_loader(layer, copy, None)
    load(layer.weight_scale, torch.ones(2, 1))
    layer.derived = True
    with pytest.raises(UnsupportedError, match=r"m.layer: .* Start the server anew"):
        load(layer.weight_scale, torch.ones(2, 1))


def test_another_dtype_or_shape_is_named(layer):
    load = loading.checked_loader(layer, copy, None)
    with pytest.raises(CheckpointError, match=r"int8 and the checkpoint holds torch.float32"):
        load(layer.weight, torch.ones(2, 3))
    with pytest.raises(CheckpointError, match=r"shape \(5, 3\) does not fit .* \(2, 3\)"):
        load(layer.weight, torch.ones(5, 3, dtype=torch.int8))


def test_what_is_derived_is_a_copy_that_keeps_its_place(layer):
    loading.derive(layer, "kept", layer.weight_scale.data)
    fill(layer)
    assert not torch.equal(layer.kept, layer.weight_scale)
    place = layer.kept.data_ptr()
    loading.derive(layer, "kept", layer.weight_scale.data)
    assert torch.equal(layer.kept, layer.weight_scale)
    assert layer.kept.data_ptr() == place
    assert layer.derived


def test_how_an_error_names_a_layer():
    layer = torch.nn.Module()
    assert loading.layer_name(layer) == "Module"
    layer.layer_name = "m.experts"
    assert loading.layer_name(layer) == "m.experts"
    layer.prefix = "m.qkv_proj"
    assert loading.layer_name(layer) == "m.qkv_proj"
