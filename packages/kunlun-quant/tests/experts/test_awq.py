# SPDX-License-Identifier: Apache-2.0
"""AWQ's experts: what is loaded for one of them, and that it is the layout of dense layers."""

from __future__ import annotations

import torch

from vllm_kunlun.quantization.experts.awq import KunlunAWQMoEMethod
from vllm_kunlun.quantization.layouts import awq


def test_read_as_dense_layers_are():
    method = KunlunAWQMoEMethod(None, 16)
    shapes = method.tensors(32, 64)
    assert shapes == {
        "qweight": ((32, 8), torch.int32),
        "qzeros": ((2, 8), torch.int32),
        "scales": ((2, 64), torch.float16),
    }
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randint(1, 2**10, (3, *shape), generator=generator).to(dtype)
        for name, (shape, dtype) in shapes.items()
    }
    experts, dense = method.read(tensors, split=False), awq.convert(**tensors)
    assert torch.equal(experts.codes, dense.qweight)
    assert torch.equal(experts.zeros, dense.qzeros)
    assert torch.equal(experts.scales, dense.scales)
