# SPDX-License-Identifier: Apache-2.0
"""Which method the experts of a compressed-tensors checkpoint get, by their scheme."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from compressed_tensors.quantization import QuantizationArgs

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.quantization.experts.compressed_int8 import KunlunW8A8Int8MoEMethod
from vllm_kunlun.quantization.experts.compressed_packed import (
    KunlunCompressedTensorsWNA16MoEMethod,
)
from vllm_kunlun.quantization.experts.fp8 import KunlunFp8MoEMethod
from vllm_kunlun.quantization.formats import compressed_experts
from vllm_kunlun.quantization.formats.compressed_experts import expert_method
from vllm_kunlun.quantization.formats.compressed_tensors import KunlunCompressedTensorsConfig


def args(**settings) -> QuantizationArgs:
    return QuantizationArgs(**{"num_bits": 8, "type": "int", "symmetric": True, **settings})


CHANNEL = args(strategy="channel")
TOKEN = args(strategy="token", dynamic=True)
GROUP = args(num_bits=4, strategy="group", group_size=32)


def choose(weights, activations=None, packing="pack-quantized", others=None):
    """``others``: the weights of the second projection, where they differ."""
    found = iter([weights, others or weights, weights])
    config = SimpleNamespace(
        _add_fused_moe_to_target_scheme_map=lambda: None,
        _is_wNa16_group_channel=KunlunCompressedTensorsConfig._is_wNa16_group_channel,
        quant_format=packing,
        get_scheme_dict=lambda layer, name: None if weights is None else {
            "weights": next(found), "input_activations": activations, "format": None,
        },
    )  # fmt: skip
    layer = SimpleNamespace(moe_config=SimpleNamespace(is_act_and_mul=True))
    return expert_method(config, layer, "m.experts")


def test_int8_of_both():
    assert isinstance(choose(CHANNEL, TOKEN), KunlunW8A8Int8MoEMethod)


def test_fp8():
    fp8 = args(type="float", strategy="channel")
    assert isinstance(choose(fp8, TOKEN), KunlunFp8MoEMethod)


@pytest.mark.parametrize(
    ("weights", "bits", "group_size", "symmetric"),
    [(GROUP, 4, 32, True), (CHANNEL, 8, -1, True),
     (GROUP.model_copy(update={"symmetric": False}), 4, 32, False)],
)  # fmt: skip
def test_packed_weights(weights, bits, group_size, symmetric):
    method = choose(weights)
    assert isinstance(method, KunlunCompressedTensorsWNA16MoEMethod)
    assert (method.bits, method.group_size, method.symmetric) == (bits, group_size, symmetric)


def test_what_is_ignored_stays_a_float(monkeypatch):
    monkeypatch.setattr(compressed_experts, "UnquantizedFusedMoEMethod", lambda moe: "plain")
    assert choose(None) == "plain"


@pytest.mark.parametrize(
    ("weights", "activations", "packing", "message"),
    [
        (args(strategy="tensor"), TOKEN, "int-quantized", "no arithmetic"),
        (CHANNEL, args(strategy="tensor", dynamic=False), "int-quantized", "no arithmetic"),
        (CHANNEL, args(strategy="tensor", dynamic=True), "int-quantized", "no arithmetic"),
        (CHANNEL, TOKEN.model_copy(update={"symmetric": False}), "int-quantized", "no arithmetic"),
        (CHANNEL, args(num_bits=4, strategy="token", dynamic=True), "x", "no arithmetic"),
        (GROUP, None, "marlin-24", "format 'marlin-24'"),
        (GROUP.model_copy(update={"num_bits": 3}), None, "pack-quantized", "3 bits"),
        (GROUP.model_copy(update={"actorder": "group"}), None, "pack-quantized", "actorder"),
    ],
    ids=[
        "per-tensor",
        "static",
        "by tensor",
        "asymmetric",
        "a4",
        "packing",
        "bits",
        "act-order",
    ],
)
def test_what_has_no_arithmetic_is_refused(weights, activations, packing, message):
    with pytest.raises(UnsupportedError, match=f"m.experts: .*{message}"):
        choose(weights, activations, packing)


def test_projections_in_different_schemes_are_refused():
    with pytest.raises(UnsupportedError, match="Quantise all experts of a layer alike"):
        choose(GROUP, others=CHANNEL)
