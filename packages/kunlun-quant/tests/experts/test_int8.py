# SPDX-License-Identifier: Apache-2.0
"""What the running of experts is given of a layer."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops.torch_ops import moe
from vllm_kunlun.quantization.experts.int8 import Int8Experts


@pytest.mark.parametrize("quantised", [False, True])
def test_a_layers_tensors_by_name(quantised, layer, monkeypatch):
    of = layer("silu")
    of.w13_weight, of.w2_weight = "w13", "w2"
    if quantised:
        of.int8_w13_max, of.int8_w2_max = "w13 max", "w2 max"
        of.w13_bias, of.w2_bias = "w13 bias", "w2 bias"
    given = {}
    monkeypatch.setattr(moe, "run_experts", lambda *a, **k: given.update(k, tensors=a))
    x, weights, ids = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    Int8Experts().apply(of, x, weights, ids)
    assert given["tensors"] == (x, "w13", "w2", weights, ids)
    assert (given["w13_max"], given["w2_max"]) == (
        ("w13 max", "w2 max") if quantised else (None, None)
    )
    assert (given["w13_bias"], given["w2_bias"]) == (
        ("w13 bias", "w2 bias") if quantised else (None, None)
    )
    assert given["activation"] == "silu"
    assert given["weight_on_input"] is False
    assert given["expert_map"] is None
