# SPDX-License-Identifier: Apache-2.0
"""The emulator's int8 functions: by hand, and what they refuse.

Values over dtypes and shapes are in the conformance cases.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vllm_kunlun.emulator import kunlun_ops, xspeedgate_ops
from vllm_kunlun.emulator.checks import VendorContractError

HALF, INT8, INT32 = torch.float16, torch.int8, torch.int32


def test_static_quantisation_saturates() -> None:
    out = torch.empty(1, 4, dtype=INT8)
    x = torch.tensor([[1000.0, -1000.0, 0.26, -0.26]])
    xspeedgate_ops.static_scaled_int8_quant(out, x, torch.tensor([0.5]), None)
    assert out.tolist() == [[127, -128, 1, -1]]
    azp = torch.tensor([100], dtype=INT32)
    xspeedgate_ops.static_scaled_int8_quant(out, x, torch.tensor([0.5]), azp)
    assert out.tolist() == [[127, -128, 101, 99]]


def test_dynamic_quantisation_of_a_row_without_range() -> None:
    """One value in a row: the scale is 0, and nothing divides by it."""
    out, scale, azp = torch.empty(1, 3, dtype=INT8), torch.empty(1, 1), ints(1, 1)
    xspeedgate_ops.dynamic_scaled_int8_quant(out, torch.full((1, 3), 5.0), scale, azp)
    assert (scale.item(), azp.item(), out.tolist()) == (0.0, -133, [[-128] * 3])


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("inner", [1, 1023, 1025, 9000])
def test_products_are_exact(inner: int, rows: int) -> None:
    """Against 64-bit integers, at the largest magnitudes there are; few rows and more."""
    torch.manual_seed(inner)
    x = torch.randint(-128, 128, (rows, inner), dtype=INT8)
    w = torch.randint(-128, 128, (6, inner), dtype=INT8)
    x[0], w[0] = -127, 127  # many such products add up to what float32 does not hold
    x[1], w[1] = -128, -128
    out, ones = torch.empty(rows, 6), torch.full((6, 1), 127.0)
    kunlun_ops.matmul(x=x, w=w, out=out, x_pc_max=ones[:rows], w_pc_max=ones)
    assert torch.equal(out, (x.long() @ w.long().T).float())


def test_matmul_adds_to_what_is_there() -> None:
    x, w, out = torch.ones(1, 2), torch.ones(3, 2), torch.full((1, 3), 10.0)
    kunlun_ops.matmul(x=x, w=w, out=out, alpha=0.5, beta=2.0)
    assert out.tolist() == [[21.0] * 3]


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=INT32)


def bytes_(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=INT8)


def quant2d(**other: Any) -> None:
    kunlun_ops.quant2d(**{
        "x": torch.zeros(3, 8), "y": bytes_(3, 8), "max": torch.zeros(3, 1), **other,
    })  # fmt: skip


def matmul(**other: Any) -> None:
    kunlun_ops.matmul(**{
        "x": bytes_(3, 8), "w": bytes_(5, 8), "out": torch.zeros(3, 5, dtype=HALF),
        "bias": torch.zeros(5), "x_pc_max": torch.zeros(3, 1), "w_pc_max": torch.zeros(5, 1),
        **other,
    })  # fmt: skip


def static(**other: Any) -> None:
    xspeedgate_ops.static_scaled_int8_quant(*{
        "out": bytes_(3, 8), "x": torch.zeros(3, 8), "scale": torch.ones(1), "azp": None, **other,
    }.values())  # fmt: skip


def dynamic(**other: Any) -> None:
    xspeedgate_ops.dynamic_scaled_int8_quant(*{
        "out": bytes_(3, 8), "x": torch.zeros(3, 8), "scale": torch.ones(3, 1), "azp": ints(3, 1),
        **other,
    }.values())  # fmt: skip


def scaled_mm(**other: Any) -> None:
    xspeedgate_ops.cutlass_scaled_mm(*{
        "out": torch.zeros(3, 5), "a": bytes_(3, 8), "b": bytes_(8, 5),
        "scale_a": torch.ones(3, 1), "scale_b": torch.ones(1, 5), "bias": None, **other,
    }.values())  # fmt: skip


def scaled_mm_azp(**other: Any) -> None:
    xspeedgate_ops.cutlass_scaled_mm_azp(*{
        "out": torch.zeros(3, 5), "a": bytes_(3, 8), "b": bytes_(8, 5),
        "scale_a": torch.ones(3, 1), "scale_b": torch.ones(1, 5), "azp_adj": ints(1, 5),
        "azp": ints(3, 1), "bias": None, **other,
    }.values())  # fmt: skip


CALLS = [quant2d, matmul, static, dynamic, scaled_mm, scaled_mm_azp]


@pytest.mark.parametrize("call", CALLS)
def test_the_good_call_passes(call: Any) -> None:
    call()


@pytest.mark.parametrize(
    ("call", "argument", "value"),
    [
        (quant2d, "x", torch.zeros(8, 3).t()),
        (quant2d, "x", torch.zeros(3, 8, dtype=torch.float64)),
        (quant2d, "y", torch.zeros(3, 8)),
        (quant2d, "y", bytes_(3, 7)),
        (quant2d, "max", torch.zeros(3)),
        (quant2d, "max", torch.zeros(3, 1, dtype=HALF)),
        (matmul, "x", torch.zeros(3, 8, dtype=torch.uint8)),
        (matmul, "w", torch.zeros(5, 8)),
        (matmul, "w", bytes_(8, 5).t()),
        (matmul, "w", bytes_(5, 7)),
        (matmul, "out", torch.zeros(3, 6)),
        (matmul, "bias", torch.zeros(5, dtype=HALF)),
        (matmul, "bias", torch.zeros(1, 5)),
        (matmul, "x_pc_max", None),
        (matmul, "x_pc_max", torch.zeros(3)),
        (matmul, "w_pc_max", torch.zeros(1, 5)),
        (matmul, "x_max", torch.zeros(1)),
        (matmul, "w_max", torch.zeros(1)),
        (static, "out", torch.zeros(3, 8)),
        (static, "x", bytes_(3, 8)),
        (static, "scale", torch.ones(3, 1)),
        (static, "azp", torch.zeros(1)),
        (static, "azp", ints(3)),
        (dynamic, "out", bytes_(3, 9)),
        (dynamic, "scale", torch.ones(3)),
        (dynamic, "azp", torch.zeros(3, 1)),
        (scaled_mm, "a", torch.zeros(3, 8)),
        (scaled_mm, "b", bytes_(7, 5)),
        (scaled_mm, "out", torch.zeros(5, 3)),
        (scaled_mm, "scale_a", torch.ones(2, 1)),
        (scaled_mm, "scale_b", torch.ones(1, 5, dtype=HALF)),
        (scaled_mm, "bias", torch.zeros(3)),
        (scaled_mm_azp, "azp_adj", ints(5)),
        (scaled_mm_azp, "azp_adj", torch.zeros(1, 5)),
        (scaled_mm_azp, "azp", ints(1, 3)),
    ],
)
def test_refused(call: Any, argument: str, value: Any) -> None:
    with pytest.raises(VendorContractError) as caught:
        call(**{argument: value})
    assert caught.value.argument == argument
