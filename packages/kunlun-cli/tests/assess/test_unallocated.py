# SPDX-License-Identifier: Apache-2.0
"""Tensors without memory."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.cli.assess.unallocated import LARGE, Unallocated


@pytest.mark.parametrize("make", [torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn])
def test_large_ones_are_on_meta_and_small_ones_have_numbers(make):
    with Unallocated():
        for size in ((LARGE,), ((LARGE // 2, 2),), (torch.Size([2, LARGE]),)):
            assert make(*size, dtype=torch.float16).device.type == "meta"
        assert make(LARGE - 1).device.type == "cpu"
        assert make(size=(LARGE,)).device.type == "meta"
    assert make(LARGE).device.type == "cpu"


def test_a_linear_layer_is_built_without_memory():
    with Unallocated():
        layer = torch.nn.Linear(1 << 20, 1 << 20)  # 4 TiB
    assert layer.weight.is_meta
