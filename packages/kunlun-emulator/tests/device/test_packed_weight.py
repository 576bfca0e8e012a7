# SPDX-License-Identifier: Apache-2.0
"""A packed weight multiplies few rows as it multiplies many, and by the loop where it can."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.device import packed_weight
from vllm_kunlun.emulator.device.packed_weight import PackedWeight
from vllm_kunlun.emulator.kernels import panels

DTYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(
            not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 here"
        ),
    ),
]


def exact(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    wide = None if bias is None else bias.double()
    return torch.nn.functional.linear(x.double(), weight.double(), wide)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(192, 128), (64, 2), (33, 17), (8, 8)])
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
def test_rows_and_strided_rows(
    dtype: torch.dtype, rows: int, columns: int, with_bias: bool
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(rows, columns).to(dtype)
    bias = torch.randn(rows).to(dtype) if with_bias else None
    packed = PackedWeight(weight)
    wide = torch.randn(1, 3 * columns).to(dtype)
    many = torch.randn(7, columns).to(dtype)
    few = [many[:count] for count in range(2, 7)] + [many[:6:3], many[:4].view(2, 2, columns)]
    for x in (wide[:, :columns], wide[:, ::3], wide[0, columns : 2 * columns], *few, many[:0]):
        got = packed.multiply(x, bias)
        assert got.dtype == dtype and got.shape == (*x.shape[:-1], rows)
        expected = exact(x, weight, bias)
        rtol = 1e-5 if dtype == torch.float32 else 2**-8
        torch.testing.assert_close(got.double(), expected, rtol=rtol, atol=1e-4)
    assert torch.equal(packed.to_dense(), weight)


def test_the_loop_is_used_where_onednn_packs_in_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PackedWeight(torch.randn(192, 128))
    if packed._panels is None:
        pytest.skip("oneDNN packs otherwise on this processor")
    asked = []
    monkeypatch.setitem(panels.LOOPS, torch.float32, lambda *arguments: asked.append(arguments))
    for rows in (0, 1, 2, 4, 5, 9):
        packed.multiply(torch.randn(rows, 128), None)
    assert [x.shape[0] for _, x, _, _ in asked] == [1, 2, 4]


def test_memory_in_another_order_is_left_to_onednn() -> None:
    """As many bytes as the weight has, but not the weight in panels of any width."""
    weight = torch.randn(192, 128)
    other = torch.randn(192, 128)
    assert packed_weight._panels(weight, other.data_ptr(), other.nbytes) is None
    assert packed_weight._panels(weight, weight.data_ptr(), weight.nbytes - 4) is None


def test_each_that_is_made_is_counted() -> None:
    before = PackedWeight.made
    PackedWeight(torch.randn(8, 8))
    assert PackedWeight.made == before + 1
