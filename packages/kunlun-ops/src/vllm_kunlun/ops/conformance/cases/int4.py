# SPDX-License-Identifier: Apache-2.0
"""AWQ and GPTQ: weights packed nibble by nibble as the contract's tables say."""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import FLOATS, Call, Case, Inputs

__all__ = ["INT4", "pack_fast", "pack_normal", "pack_sequential"]

FLOAT16 = (torch.float16,)


def pack_sequential(values: Tensor, bits: int) -> Tensor:
    """``[R, C]`` small integers to int32 ``[R, C bits / 32]``, lowest bits first."""
    per_word = 32 // bits
    rows = []
    for row in values.tolist():
        words = [row[start : start + per_word] for start in range(0, len(row), per_word)]
        rows.append([sum(v << (bits * i) for i, v in enumerate(word)) for word in words])
    return _words(rows, values.shape[1] // per_word)


def pack_normal(values: Tensor) -> Tensor:
    """Nibble ``i`` of a word holds column ``1 0 3 2 5 4 7 6`` of 8."""
    order = (1, 0, 3, 2, 5, 4, 7, 6)
    columns = [start + order[i] for start in range(0, values.shape[1], 8) for i in range(8)]
    return pack_sequential(values[:, columns], 4)


def pack_fast(values: Tensor) -> Tensor:
    """Byte ``t`` of 32 holds column ``32 + t`` of 64 in its low nibble, ``t`` in its high one."""
    columns = [
        start + column
        for start in range(0, values.shape[1], 64)
        for t in range(32)
        for column in (32 + t, t)
    ]
    return pack_sequential(values[:, columns], 4)


def _words(rows: list[list[int]], width: int) -> Tensor:
    signed = [[w - (1 << 32) if w >= 1 << 31 else w for w in row] for row in rows]
    return torch.tensor(signed, dtype=torch.int32).view(len(rows), width)


def _weight(q: Tensor, z: Tensor, s: Tensor, group: int) -> Tensor:
    rows = [(q[k] - z[k // group]).double() * s[k // group].double() for k in range(len(q))]
    return torch.stack(rows)


def _awq_parts(
    inputs: Inputs, inner: int, columns: int, group: int, align: int
) -> tuple[dict[str, Tensor], Tensor]:
    pack = pack_fast if align else pack_normal
    q = inputs.integers(0, 16, inner, columns)
    z = inputs.integers(0, 16, inner // group, columns)
    s = inputs.uniform(inner // group, columns, dtype=torch.float16) * 0.1
    parts = {"weight": pack(q), "zeros": pack(z), "scales": s}
    return parts, _weight(q, z, s, group)


def _dequantise(inputs: Inputs, inner: int, columns: int, group: int, align: int) -> Call:
    parts, expected = _awq_parts(inputs, inner, columns, group, align)
    keywords = {
        "qweight": parts["weight"],
        "scales": parts["scales"],
        "zeros": parts["zeros"],
        "weight": inputs.empty(inner, columns, dtype=torch.float16),
        "group_m": group,
        "quant_type": 0,
        "align_type": align,
    }
    return Call(kwargs=keywords, expected={"weight": expected})


def _awq(inputs: Inputs, rows: int, inner: int, columns: int, group: int, align: int) -> Call:
    parts, weight = _awq_parts(inputs, inner, columns, group, align)
    x = inputs.normal(rows, inner, dtype=torch.float16)
    keywords = {
        "x": x,
        "w": parts["weight"],
        "scale": parts["scales"],
        "zeros": parts["zeros"],
        "out": inputs.empty(rows, columns, dtype=torch.float16),
        "align_type": align,
        "group_size": group,
    }
    return Call(kwargs=keywords, expected={"out": x.double() @ weight})


def _gptq(
    inputs: Inputs, rows: int, inner: int, columns: int, group: int, bits: int,
    *, ordered: bool = False,
) -> Call:  # fmt: skip
    top = 1 << bits
    q = inputs.integers(0, top, inner, columns)
    z = inputs.integers(0, top - 1, inner // group, columns)
    s = inputs.uniform(inner // group, columns) * 0.1
    x = inputs.normal(rows, inner)
    order = inputs.permutation(inner) if ordered else inputs.tensor([], torch.int32)
    weight = _weight(q, z + 1, s, group)
    places = order.tolist() if ordered else list(range(inner))

    def product(rows: Tensor) -> dict[str, Tensor]:
        """Of ``x`` with row i for input ``places[i]``."""
        by_input = torch.empty_like(rows)
        by_input[places] = rows
        return {"return": x.double() @ by_input}

    otherwise = {
        "the weight is in the inputs' order, and g_idx[i] is the i-th that was quantised":
            product(_weight(q[places], z + 1, s, group)),
        "the inverse permutation": {"return": x.double() @ weight[places]},
        "g_idx is not looked at": {"return": x.double() @ weight},
    }  # fmt: skip
    packed_zeros = pack_fast(z) if bits == 4 else pack_sequential(z, 8)
    packed = pack_sequential(q.T, bits).T.contiguous()
    args = (x, packed, packed_zeros, s, order, True, bits)
    return Call(args, expected=product(weight), otherwise=otherwise if ordered else {})


def _gptq_offset(inputs: Inputs) -> Call:
    """One input, q = 1, z = 0, s = 1: nothing is left."""
    x = inputs.tensor([[1.0] + [0.0] * 7], inputs.dtype)
    words = torch.ones(1, 64, dtype=torch.int32)
    zeros = torch.zeros(1, 8, dtype=torch.int32)
    scales = torch.ones(1, 64, dtype=inputs.dtype)
    empty = inputs.tensor([], torch.int32)
    expected = torch.zeros(1, 64, dtype=torch.float64)
    return Call(
        (x, words, zeros, scales, empty, True, 4),
        expected={"return": expected},
        otherwise={"the stored zero is the zero": {"return": expected + 1}},
    )


_DEQUANTISE, _AWQ = "kunlun_ops.awq_dequantize", "kunlun_ops.awq_gemm"
_GPTQ = "xspeedgate_ops.gptq_gemm"

INT4 = (
    Case(_DEQUANTISE, "normal layout", lambda i: _dequantise(i, 64, 40, 32, 0), FLOAT16),
    Case(_DEQUANTISE, "fast layout", lambda i: _dequantise(i, 64, 128, 16, 1), FLOAT16),
    Case(_DEQUANTISE, "one group", lambda i: _dequantise(i, 24, 8, 24, 0), FLOAT16),
    Case(_AWQ, "normal layout", lambda i: _awq(i, 5, 64, 40, 32, 0), FLOAT16),
    Case(_AWQ, "fast layout", lambda i: _awq(i, 5, 128, 64, 64, 1), FLOAT16),
    Case(_AWQ, "no rows", lambda i: _awq(i, 0, 64, 64, 64, 1), FLOAT16),
    Case(_GPTQ, "4 bits", lambda i: _gptq(i, 5, 64, 128, 32, 4)),
    Case(_GPTQ, "8 bits", lambda i: _gptq(i, 5, 64, 36, 32, 8)),
    Case(_GPTQ, "no rows", lambda i: _gptq(i, 0, 64, 64, 64, 4)),
    Case(
        _GPTQ,
        "4 bits in order of quantisation",
        lambda i: _gptq(i, 5, 64, 64, 16, 4, ordered=True),
        assumption="gptq-order",
    ),
    Case(
        _GPTQ,
        "8 bits in order of quantisation",
        lambda i: _gptq(i, 3, 32, 12, 8, 8, ordered=True),
        assumption="gptq-order",
    ),
    Case(_GPTQ, "zero offset", _gptq_offset, FLOATS, assumption="gptq-zero-offset"),
)
