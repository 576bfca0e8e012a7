# SPDX-License-Identifier: Apache-2.0
"""Emulated adapter functions: worked by hand, and against vLLM's own torch implementation."""

from __future__ import annotations

import pytest
import torch
from vllm.lora.ops.torch_ops import bgmv_expand_slice, bgmv_shrink

from vllm_kunlun.ops import vendor_ops

A = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])  # two adapters of rank 1 on two inputs
B = torch.tensor([[[1.0], [10.0]], [[2.0], [20.0]]])
X = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 5.0]])


def int32(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize("shrink", [vendor_ops.sgmv_shrink_sdnn, vendor_ops.sgmv_shrink_cluster])
def test_shrink_by_hand(shrink) -> None:
    output = torch.zeros(3, 1)
    shrink(X, A, int32(1, 1, 1), int32(1, -1, 0), output, 0.5)
    assert output.tolist() == [[1.0], [0.0], [5.0]]


@pytest.mark.parametrize("expand", [vendor_ops.sgmv_expand_sdnn, vendor_ops.sgmv_expand_cluster])
def test_expand_by_hand(expand) -> None:
    output = torch.ones(3, 4)
    expand(torch.tensor([[1.0], [2.0], [3.0]]), B, int32(2, 1), int32(0, 1), output, 1)
    assert output.tolist() == [[1, 2, 11, 1], [1, 3, 21, 1], [1, 7, 61, 1]]


def test_by_token_by_hand() -> None:
    indices = torch.tensor([1, -1, 0])
    buffer, output = torch.zeros(3, 1), torch.ones(3, 2)
    vendor_ops.bgmv_shrink_cluster(X, A, indices, buffer, 2.0)
    assert buffer.tolist() == [[4.0], [0.0], [20.0]]
    vendor_ops.bgmv_expand_cluster(buffer, B, indices, output, 0)
    assert output.tolist() == [[9.0, 81.0], [1.0, 1.0], [21.0, 201.0]]


def test_a_step_after_another_uses_its_own_adapters() -> None:
    """The grouping of rows is remembered; the same tensor with other values is another step."""
    indices, outputs = torch.tensor([0, 0, 0]), []
    for adapter in (0, 1, 0):
        indices.fill_(adapter)
        outputs.append(torch.zeros(3, 1))
        vendor_ops.bgmv_shrink_cluster(X, A, indices, outputs[-1], 1.0)
    assert torch.equal(outputs[0], outputs[2])
    assert outputs[1].tolist() == [[2.0], [6.0], [-5.0]]


@pytest.mark.parametrize("tokens", [1, 6, 200])
def test_equals_vllms_torch_implementation(tokens: int) -> None:
    """Where every row has an adapter: vLLM's gives a row without one the last adapter's output."""
    torch.manual_seed(tokens)
    lora_a, lora_b = torch.randn(4, 8, 24), torch.randn(4, 30, 8)
    x, indices = torch.randn(tokens, 24), torch.randint(4, (tokens,))
    ours, theirs = torch.zeros(tokens, 8), torch.zeros(tokens, 8)
    vendor_ops.bgmv_shrink_cluster(x, lora_a, indices, ours, 0.3)
    bgmv_shrink(x, lora_a, theirs, indices, 0.3)
    torch.testing.assert_close(ours, theirs)
    y = torch.randn(tokens, 40)
    expected = y.clone()
    vendor_ops.bgmv_expand_cluster(ours, lora_b, indices, y, 7)
    bgmv_expand_slice(theirs, lora_b, expected, indices, 7, 30)
    torch.testing.assert_close(y, expected)


def test_another_adapters_nan_does_not_spread() -> None:
    spoilt = A.clone()
    spoilt[1] = float("nan")
    output = torch.zeros(3, 1)
    vendor_ops.bgmv_shrink_cluster(X, spoilt, torch.tensor([0, -1, 1]), output, 1.0)
    assert output[:2].tolist() == [[3.0], [0.0]]
    assert output[2].isnan()
