# SPDX-License-Identifier: Apache-2.0
"""The int8 kernel's scales: one per channel, and one range for matrices that are fused."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.quantization.linear.int8 import per_channel, united_range


def test_input_ranges_that_differ_are_united():
    scale, azp = torch.tensor([0.1, 0.2]), torch.tensor([-128, 127], dtype=torch.int8)
    united, zero_point = united_range(scale, azp)  # [0, 25.5] and [-51, 0]
    assert united.item() == pytest.approx(76.5 / 255)
    assert zero_point.item() == 42  # -128 + 51 / 0.3
    assert united_range(scale, None)[0].item() == pytest.approx(0.2)
    same = united_range(torch.tensor([0.1, 0.1]), torch.tensor([3, 3], dtype=torch.int8))
    assert same[0].item() == pytest.approx(0.1)
    assert same[1].item() == 3


def test_a_scale_for_each_matrix_becomes_one_for_each_channel():
    spread = per_channel(torch.tensor([1.0, 2.0]), [3, 2])
    assert spread.tolist() == [[1.0], [1.0], [1.0], [2.0], [2.0]]
    assert per_channel(torch.tensor([[1.0], [2.0]]), [1, 1]).tolist() == [[1.0], [2.0]]
