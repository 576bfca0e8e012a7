# SPDX-License-Identifier: Apache-2.0
"""compressed-tensors' packed experts as they are read: ``[out, in]``, with and without zeros."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.quantization.experts.compressed_packed import (
    KunlunCompressedTensorsWNA16MoEMethod,
)

EXPERTS, INPUTS, OUTPUTS, GROUP = 2, 32, 16, 16


def fields(values, bits):
    parts = values.long().unflatten(-1, (-1, 32 // bits))
    return sum(parts[..., i] << bits * i for i in range(32 // bits)).to(torch.int32)


@pytest.mark.parametrize(("bits", "middle"), [(4, 8), (8, 128)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_values(bits, middle, symmetric):
    generator = torch.Generator().manual_seed(bits)
    codes, zeros = (
        torch.randint(1 << bits, (EXPERTS, OUTPUTS, columns), generator=generator)
        for columns in (INPUTS, INPUTS // GROUP)
    )
    scales = (torch.rand(zeros.shape, generator=generator) / (1 << bits)).half()
    method = KunlunCompressedTensorsWNA16MoEMethod(None, bits, GROUP, symmetric)
    tensors = {"weight_packed": fields(codes, bits), "weight_scale": scales.float()}
    if symmetric:
        zeros = torch.full_like(zeros, middle)
    else:
        tensors["weight_zero_point"] = fields(zeros.transpose(1, 2), bits).transpose(1, 2)
    asked = method.tensors(INPUTS, OUTPUTS)
    for name, value in tensors.items():
        assert asked[name][0] == tuple(value.shape[1:])
    assert set(asked) == {*tensors, "weight_shape"}
    came = method.read(tensors, split=False).dequantise(None, torch.float32)
    group = torch.arange(INPUTS) // GROUP
    expected = (codes - zeros[..., group]) * scales.double()[..., group]
    torch.testing.assert_close(came.double(), expected, rtol=1e-3, atol=1e-6)
