# SPDX-License-Identifier: Apache-2.0
"""GPTQ's experts as they are read: the zeros' format, and the order of the inputs."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.quantization.experts.gptq import KunlunGPTQMoEMethod

EXPERTS, INPUTS, OUTPUTS, GROUP = 2, 16, 8, 8


def loaded(order):
    generator = torch.Generator().manual_seed(0)
    codes, stored = (
        torch.randint(1, 255, (EXPERTS, rows, OUTPUTS), generator=generator)
        for rows in (INPUTS, INPUTS // GROUP)
    )
    rows = codes.unflatten(1, (-1, 4))
    columns = stored.unflatten(2, (-1, 4))
    return codes, stored, {
        "qweight": sum(rows[:, :, i] << 8 * i for i in range(4)).to(torch.int32),
        "qzeros": sum(columns[..., i] << 8 * i for i in range(4)).to(torch.int32),
        "scales": torch.rand(EXPERTS, INPUTS // GROUP, OUTPUTS, generator=generator) / 256,
        "g_idx": order.expand(EXPERTS, -1).int(),
    }  # fmt: skip


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("ordered", [False, True])
def test_values(offset, ordered):
    order = torch.arange(INPUTS) // GROUP
    codes, stored, tensors = loaded(order.flip(0) if ordered else order)
    method = KunlunGPTQMoEMethod(None, 8, GROUP, offset, ordered)
    came = method.read(tensors, split=False).dequantise(None, torch.float32)
    group = order.flip(0) if ordered else order
    expected = (codes - stored[:, group] - offset) * tensors["scales"].double()[:, group]
    torch.testing.assert_close(came.double().transpose(1, 2), expected, rtol=1e-5, atol=1e-6)


def test_an_order_that_is_not_used_is_not_read():
    _, _, tensors = loaded(torch.zeros(INPUTS))
    assert KunlunGPTQMoEMethod(None, 8, GROUP, 1, False).read(tensors, split=True).place is None
    assert not KunlunGPTQMoEMethod(None, 8, -1, 1, True).desc_act


def test_ranks_cannot_share_out_inputs_that_are_in_another_order():
    _, _, tensors = loaded(torch.arange(INPUTS) // GROUP)
    with pytest.raises(UnsupportedError, match="enable-expert-parallel"):
        KunlunGPTQMoEMethod(None, 8, GROUP, 1, True).read(tensors, split=True)
