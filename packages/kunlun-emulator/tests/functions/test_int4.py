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
