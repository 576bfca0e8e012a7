# SPDX-License-Identifier: Apache-2.0
"""The method compressed-tensors: what is refused by name."""

from __future__ import annotations

import pytest

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.quantization.formats.compressed_tensors import KunlunCompressedTensorsConfig


def test_transforms_are_refused_and_an_fp8_cache_is_not_taken_over(int8_configuration):
    with pytest.raises(UnsupportedError, match="transform_config"):
        int8_configuration("channel", False, True, transform_config={"config_groups": {}})
    scheme = {"type": "float", "num_bits": 8, "strategy": "tensor", "symmetric": True}
    config = int8_configuration("channel", False, True, kv_cache_scheme=scheme)
    assert config.kv_cache_scheme is None


@pytest.mark.parametrize(
    ("weights", "activations", "format_"),
    [
        ({"num_bits": 4}, {}, "int-quantized"),
        ({"symmetric": False}, {}, "int-quantized"),
        ({"strategy": "group", "group_size": 32}, {}, "int-quantized"),
        ({}, {"num_bits": 4}, "int-quantized"),
        ({}, {}, "an-unknown-format"),
    ],
    ids=["w4a8", "weights-asymmetric", "groups", "w8a4", "format"],
)
def test_what_has_no_arithmetic_is_refused_by_name(
    weights, activations, format_, qkv, int8_configuration
):
    given = int8_configuration("channel", False, True)
    group = given.config["config_groups"]["g"]
    group["weights"] |= weights
    group["input_activations"] |= activations
    config = KunlunCompressedTensorsConfig.from_config({**given.config, "format": format_})
    config.packed_modules_mapping = given.packed_modules_mapping
    with pytest.raises(UnsupportedError, match=r"qkv_proj: .*int8 \(W8A8\)"):
        qkv(config)
