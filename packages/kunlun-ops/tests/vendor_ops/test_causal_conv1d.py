# SPDX-License-Identifier: Apache-2.0
"""The convolution adapter passes each argument as the contract says."""

from __future__ import annotations

import torch
from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_convolution_arguments(recorders: dict[str, Recorder]) -> None:
    """Sizes and the stride between states come from the tensors."""
    x, weight, states = torch.empty(7, 6), torch.empty(6, 4), torch.empty(5, 40)
    states = states[:, :18].unflatten(1, (3, 6))
    starts, indices = torch.tensor([0, 3, 7]), torch.tensor([2, 4])
    names = ("has_initial_state_cpu", "has_initial_state_xpu")
    cached = {"cache_indices_cpu": indices, "cache_indices_xpu": "indices"}
    vendor_ops.causal_conv1d_fn(x, "out", weight, "bias", states, "cpu", starts, **cached,
                            **dict(zip(names, names, strict=True)))  # fmt: skip
    chosen = {"conv_state_indices_cpu": "cpu", "conv_state_indices_xpu": "xpu"}
    vendor_ops.causal_conv1d_update("x", weight, "out", states, "bias", **chosen)
    both = {"act": "SWISH", "state_seq_stride": 40}
    positional = (x, "out", 6, 7, weight, 4, states, 5, 3, "cpu", starts, 2, "bias")
    named = {**cached, **dict(zip(names, names, strict=True)), **both}
    assert recorders["kunlun_ops"].calls == [
        ("causal_conv1d_fn", positional, named),
        ("causal_conv1d_update", ("x", weight, "out", states, None, "bias"),
         {**chosen, **both, "is_ncw": False}),
    ]  # fmt: skip
