# SPDX-License-Identifier: Apache-2.0
"""How compressed-tensors describes the scales of fp8 weights."""

from __future__ import annotations

import pytest
from compressed_tensors.quantization import QuantizationArgs

from vllm_kunlun.quantization.formats.compressed_fp8 import fp8_layout
from vllm_kunlun.quantization.layouts.fp8 import Fp8Layout

FP8 = {"num_bits": 8, "type": "float", "symmetric": True}


def weights(**settings) -> QuantizationArgs:
    return QuantizationArgs(**{**FP8, "strategy": "channel", **settings})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"strategy": "tensor"}, Fp8Layout("tensor")), ({}, Fp8Layout("channel")),
     ({"strategy": "block", "block_structure": [128, 64]}, Fp8Layout("block", block=(128, 64)))],
)  # fmt: skip
def test_three_ways_of_scaling(settings, expected):
    assert fp8_layout(weights(**settings), None) == expected


@pytest.mark.parametrize(
    "settings",
    [{"type": "int"}, {"num_bits": 4}, {"symmetric": False},
     {"strategy": "group", "group_size": 32}],
)  # fmt: skip
def test_everything_else_is_not_fp8(settings):
    assert fp8_layout(weights(**settings), None) is None


def test_static_activations_bring_scales():
    static = QuantizationArgs(**FP8, strategy="tensor", dynamic=False)
    dynamic = QuantizationArgs(**FP8, strategy="token", dynamic=True)
    assert fp8_layout(weights(), static).static_input
    assert not fp8_layout(weights(), dynamic).static_input
