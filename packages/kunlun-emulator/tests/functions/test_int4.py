# SPDX-License-Identifier: Apache-2.0
"""The emulator's 4-bit functions: by hand, and what they refuse.

Values over dtypes and shapes are in the conformance cases.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vllm_kunlun.emulator import kunlun_ops, xspeedgate_ops
from vllm_kunlun.emulator.checks import VendorContractError

HALF, INT8, INT32 = torch.float16, torch.int8, torch.int32


def test_awq_by_hand() -> None:
    """Word 0x76543210 in the normal layout: nibble i = i, so column order[i] = i."""
    word = torch.tensor([[0x76543210]], dtype=INT32)
    out = torch.empty(1, 8, dtype=HALF)
    kunlun_ops.awq_dequantize(
        qweight=word, scales=torch.full((1, 8), 0.5, dtype=HALF),
        zeros=torch.tensor([[0x11111111]], dtype=INT32), weight=out, group_m=1, align_type=0,
    )  # fmt: skip
    assert out.tolist() == [[(q - 1) * 0.5 for q in (1, 0, 3, 2, 5, 4, 7, 6)]]


def test_awq_fast_layout_by_hand() -> None:
    """Byte 0 of the row is 0xA3: column 0 holds 10 (high), column 32 holds 3 (low)."""
    row = torch.zeros(1, 8, dtype=INT32)
    row[0, 0] = 0xA3
    out = torch.empty(1, 64, dtype=HALF)
    kunlun_ops.awq_dequantize(
        qweight=row, scales=torch.ones(1, 64, dtype=HALF), zeros=torch.zeros_like(row),
        weight=out, group_m=1, align_type=1,
    )  # fmt: skip
    assert out.nonzero().tolist() == [[0, 0], [0, 32]]
    assert (out[0, 0], out[0, 32]) == (10, 3)


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=INT32)


def dequantise(**other: Any) -> None:
    kunlun_ops.awq_dequantize(**{
        "qweight": ints(16, 8), "scales": torch.ones(2, 64, dtype=HALF), "zeros": ints(2, 8),
        "weight": torch.zeros(16, 64, dtype=HALF), "group_m": 8, "align_type": 1, **other,
    })  # fmt: skip


def awq(**other: Any) -> None:
    kunlun_ops.awq_gemm(**{
        "x": torch.zeros(3, 16, dtype=HALF), "w": ints(16, 8),
        "scale": torch.ones(2, 64, dtype=HALF), "zeros": ints(2, 8),
        "out": torch.zeros(3, 64, dtype=HALF), "align_type": 1, "group_size": 8, **other,
    })  # fmt: skip


def gptq(**other: Any) -> None:
    xspeedgate_ops.gptq_gemm(*{
        "x": torch.zeros(3, 16), "qweight": ints(2, 64), "qzeros": ints(2, 8),
        "scales": torch.ones(2, 64), "g_idx": ints(0), "use_exllama": True, "bits": 4, **other,
    }.values())  # fmt: skip


CALLS = [dequantise, awq, gptq]


@pytest.mark.parametrize("call", CALLS)
def test_the_good_call_passes(call: Any) -> None:
    call()


@pytest.mark.parametrize("call", CALLS)
def test_a_call_while_a_model_in_float16_is_loaded(call: Any) -> None:
    """vLLM makes the model's dtype torch's default for that long."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(HALF)
    try:
        call()
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("call", "argument", "value"),
    [
        (dequantise, "qweight", torch.zeros(16, 8, dtype=torch.int64)),
        (dequantise, "qweight", ints(16, 7)),
        (dequantise, "scales", torch.ones(2, 64)),
        (dequantise, "zeros", ints(1, 8)),
        (dequantise, "weight", torch.zeros(16, 64)),
        (dequantise, "weight", torch.zeros(16, 32, dtype=HALF)),
        (dequantise, "group_m", 5),
        (dequantise, "group_m", 0),
        (dequantise, "align_type", 2),
        (dequantise, "quant_type", 1),
        (awq, "x", torch.zeros(3, 16, dtype=torch.bfloat16)),
        (awq, "x", torch.zeros(3, 15, dtype=HALF)),
        (awq, "w", ints(16, 7)),
        (awq, "scale", torch.ones(2, 63, dtype=HALF)),
        (awq, "out", torch.zeros(3, 64)),
        (awq, "group_size", 32),
        (gptq, "bits", 3),
        (gptq, "x", torch.zeros(3, 15)),
        (gptq, "qweight", torch.zeros(2, 64)),
        (gptq, "qzeros", ints(2, 7)),
        (gptq, "scales", torch.ones(2, 64, dtype=HALF)),
        (gptq, "scales", torch.ones(2, 63)),
        (gptq, "g_idx", torch.zeros(0, dtype=torch.int64)),
        (gptq, "g_idx", ints(8)),
    ],
)
def test_refused(call: Any, argument: str, value: Any) -> None:
    with pytest.raises(VendorContractError) as caught:
        call(**{argument: value})
    assert caught.value.argument == argument


def test_four_bit_zeros_need_whole_rows_of_the_fast_layout() -> None:
    with pytest.raises(VendorContractError) as caught:
        gptq(qweight=ints(2, 40), qzeros=ints(2, 5), scales=torch.ones(2, 40))
    assert caught.value.argument == "qzeros"


def test_groups_divide_the_inputs() -> None:
    with pytest.raises(VendorContractError) as caught:
        gptq(scales=torch.ones(3, 64), qzeros=ints(3, 8))
    assert caught.value.argument == "scales"


def packed(inputs: int, outputs: int, groups: int) -> tuple[torch.Tensor, ...]:
    """Random words of AWQ, of its zeros, and scales."""
    random = torch.Generator().manual_seed(outputs)
    words, zeros = (
        torch.randint(-(2**31), 2**31 - 1, (rows, outputs // 8), generator=random).int()
        for rows in (inputs, groups)
    )
    return words, zeros, torch.rand(groups, outputs, generator=random).half()


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("groups", [2, 8])
@pytest.mark.parametrize("align_type", [0, 1])
def test_awq_of_more_columns_than_are_unpacked_at_once(
    align_type: int, groups: int, rows: int
) -> None:
    """One row, few and many, groups of 12 and of 3 inputs: as the codes times scales in float64."""
    words, zeros, scales = packed(24, 1088, groups)
    codes, x = torch.empty(24, 1088, dtype=HALF), torch.randn(rows, 24).half()
    layout = {"zeros": zeros, "align_type": align_type}
    group = 24 // groups
    kunlun_ops.awq_dequantize(
        qweight=words, scales=torch.ones_like(scales), weight=codes, group_m=group, **layout
    )
    out = torch.empty(rows, 1088, dtype=HALF)
    kunlun_ops.awq_gemm(x=x, w=words, scale=scales, out=out, group_size=group, **layout)
    weight = codes.double() * scales.double().repeat_interleave(group, 0)
    torch.testing.assert_close(out.double(), x.double() @ weight, rtol=6e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("groups", [2, 4])
def test_gptq_of_more_columns_than_are_unpacked_at_once(groups: int, rows: int) -> None:
    """One row, few and many, as the same product in float64."""
    _, zeros, scales = packed(32, 1088, groups)
    words = torch.randint(-(2**31), 2**31 - 1, (4, 1088)).int()
    x, order = torch.randn(rows, 32), ints(0)
    shifts = torch.arange(0, 32, 4).view(1, 8, 1)
    codes = ((words.long().unsqueeze(1) >> shifts) & 15).flatten(0, 1).double()
    zero = torch.empty(groups, 1088, dtype=HALF)
    kunlun_ops.awq_dequantize(
        qweight=zeros, scales=torch.ones_like(scales), zeros=torch.zeros_like(zeros), weight=zero,
        group_m=1, align_type=1,
    )  # fmt: skip
    group = torch.arange(32) // (32 // groups)
    expected = x.double() @ ((codes - (zero.double() + 1)[group]) * scales.double()[group])
    got = xspeedgate_ops.gptq_gemm(x, words, zeros, scales.float(), order, True, 4)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_shows_and_other_rows_do_not_mind(value: float) -> None:
    """A row that is no sum of bytes takes the other way; so do those that came with it."""
    x = torch.ones(2, 128)
    x[1, 70] = value
    words = torch.full((16, 128), 0x55555555, dtype=INT32)
    zeros = torch.full((2, 16), 0x22222222, dtype=INT32)
    out = xspeedgate_ops.gptq_gemm(
        x, words, zeros, torch.ones(2, 128), torch.empty(0, dtype=INT32), True, 4
    )
    assert (out[0] == 128 * (5 - 3)).all()
    torch.testing.assert_close(out[1], torch.full((128,), value), equal_nan=True)
