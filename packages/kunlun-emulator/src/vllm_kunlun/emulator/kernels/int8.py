# SPDX-License-Identifier: Apache-2.0
"""Rows quantised to int8, and a few of them times a matrix that is read once where it lies.

oneDNN's product brings the whole matrix into its own order at every call, which takes longer than
so few rows' arithmetic, and knows one matrix alone, not one for each expert. Products of two bytes
are added in pairs by the processor's multiply-add of 16-bit numbers (pmaddwd), which the compiler
does not find by itself.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import float32, int8, int32, types
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = [
    "FEW_ROWS",
    "SIGNATURE",
    "is_there",
    "multiply",
    "multiply_few",
    "quantise",
    "scale",
    "scale_of",
    "scaled",
]

FEW_ROWS = 2
"""Up to here quicker than oneDNN's product."""
_BYTES = 32
"""Of each row that are multiplied at a time."""
_TILE = 64
"""Outputs that a thread takes at a time; a multiple of 4."""
_SCALED = 1024
"""Outputs whose scales are computed once for all rows."""


def _instruction() -> tuple[str, int]:
    """The multiply-add of pairs that the loops are compiled for, and its sums; or none."""
    if numba.config.CPU_NAME is not None or numba.config.CPU_FEATURES is not None:
        return "", 0  # compiled for another processor than this one
    features = binding.get_host_cpu_features()
    if features.get("avx512bw"):
        return "llvm.x86.avx512.pmaddw.d.512", 16
    return ("llvm.x86.avx2.pmadd.wd", 8) if features.get("avx2") else ("", 0)


_NAME, _SUMS = _instruction()


def is_there() -> bool:
    """Whether this processor has what :func:`multiply` is compiled to."""
    return _SUMS > 0


@intrinsic
def _four_dots(context, x, y0, y1, y2, y3):  # type: ignore[no-untyped-def]
    """``x . y`` for four rows, of as many whole pieces of :data:`_BYTES` as ``x`` has."""
    signature = types.UniTuple(types.int32, 4)(x, y0, y1, y2, y3)
    byte, short, word = ir.IntType(8), ir.IntType(16), ir.IntType(32)
    sums, pieces = ir.VectorType(word, _SUMS), _BYTES // (2 * _SUMS)
    bytes_, shorts = ir.VectorType(byte, 2 * _SUMS), ir.VectorType(short, 2 * _SUMS)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        rows = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        (count,) = cgutils.unpack_tuple(builder, rows[0].shape, 1)
        function = cgutils.get_or_insert_function
        add_pairs = function(builder.module, ir.FunctionType(sums, [shorts, shorts]), _NAME)
        add_all = function(
            builder.module, ir.FunctionType(word, [sums]), f"llvm.vector.reduce.add.v{_SUMS}i32"
        )
        totals = [cgutils.alloca_once_value(builder, ir.Constant(sums, None)) for _ in range(4)]

        def load(row: Any, offset: Any) -> Any:
            address = builder.gep(row.data, [offset])
            value = builder.load(builder.bitcast(address, bytes_.as_pointer()), align=1)
            return builder.sext(value, shorts)

        step = ir.Constant(count.type, _BYTES)
        with cgutils.for_range(builder, builder.sdiv(count, step)) as loop:
            start = builder.mul(loop.index, step)
            for piece in range(pieces):
                offset = builder.add(start, ir.Constant(count.type, piece * 2 * _SUMS))
                factor = load(rows[0], offset)
                for total, row in zip(totals, rows[1:], strict=True):
                    products = builder.call(add_pairs, [factor, load(row, offset)])
                    builder.store(builder.add(builder.load(total), products), total)
        results = [builder.call(add_all, [builder.load(total)]) for total in totals]
        return context.make_tuple(builder, signature.return_type, results)

    return signature, generate


@numba.njit(fastmath=FAST)
def _rest(x, y, first):  # type: ignore[no-untyped-def]
    total = int32(0)
    for k in range(first, x.shape[0]):
        total = int32(total + int32(x[k]) * int32(y[k]))
    return total


@numba.njit(fastmath=False)
def scale_of(largest):  # type: ignore[no-untyped-def]
    """What one step of int8 stands for."""
    return largest / float32(127)


@numba.njit(fastmath=False)
def scaled(total, x_scale, weight_scale):  # type: ignore[no-untyped-def]
    """Rounded in this order, which a loop with fast sums would not keep."""
    return float32(total) * x_scale * weight_scale


@numba.njit(fastmath=FAST)
def _scale(sums, first_row, last_row, low, high, x_max, weight_max, out):  # type: ignore[no-untyped-def]
    """``out = sums (x_max / 127) (weight_max / 127)`` of some rows and columns."""
    scales = np.empty(high - low, np.float32)
    for n in range(low, high):
        scales[n - low] = scale_of(weight_max[n, 0])
    for row in range(first_row, last_row):
        x_scale = scale_of(x_max[row, 0])
        for n in range(low, high):
            out[row, n] = scaled(sums[row, n], x_scale, scales[n - low])


@numba.njit(fastmath=FAST)
def multiply_few(x, first_row, last_row, weight, low, high, x_max, weight_max, out):  # type: ignore[no-untyped-def]
    """Some rows and outputs of :func:`multiply`, of one matrix.

    Each row of ``weight`` is read from memory once.
    """
    first, last = x.shape[1] // _BYTES * _BYTES, weight.shape[0] - 1
    for n in range(low, high, 4):
        n1, n2, n3 = min(n + 1, last), min(n + 2, last), min(n + 3, last)
        y0, y1, y2, y3 = weight[n], weight[n1], weight[n2], weight[n3]
        for m in range(first_row, last_row):
            row = x[m]
            a, b, c, d = _four_dots(row, y0, y1, y2, y3)
            if first < row.shape[0]:
                a, b = a + _rest(row, y0, first), b + _rest(row, y1, first)
                c, d = c + _rest(row, y2, first), d + _rest(row, y3, first)
            out[m, n3], out[m, n2], out[m, n1], out[m, n] = d, c, b, a
    if x_max.shape[0] > 0:
        values = out.view(np.float32)
        _scale(out, first_row, last_row, low, high, x_max, weight_max, values)


SIGNATURE = numba.void(
    int8[:, ::1], int8[:, :, ::1], int32[::1], float32[:, ::1], float32[:, :, ::1], int32[:, ::1]
)
"""Of :func:`multiply`, here and in tile registers."""


@compiled(SIGNATURE)
def multiply(x: Any, weight: Any, ends: Any, x_max: Any, weight_max: Any, out: Any) -> None:
    """``out[r] = weight[e] x[r]`` where ``ends[e - 1] <= r < ends[e]``.

    Exact as long as sums stay below 2^31; only where :func:`is_there`. With ``x_max`` the bits of
    float32: the sum times ``x_max[r] / 127`` times ``weight_max[e] / 127``, rounded in this order.

    Shapes: x ``[R, K]``, weight ``[E, N, K]``, ends ``[E]``, rising, x_max ``[R, 1]`` or
    ``[0, 1]``, weight_max ``[E, N, 1]``, out ``[R, N]`` (written up to the last end).
    """
    groups, outputs, _ = weight.shape
    tiles = (outputs + _TILE - 1) // _TILE
    for item in numba.prange(groups * tiles):
        group, low = item // tiles, item % tiles * _TILE
        start = ends[group - 1] if group > 0 else 0
        if start < ends[group]:
            high = min(outputs, low + _TILE)
            largest = weight_max[min(group, weight_max.shape[0] - 1)]
            multiply_few(x, start, ends[group], weight[group], low, high, x_max, largest, out)


@compiled(numba.void(int32[:, ::1], float32[:, ::1], float32[:, ::1], float32[:, ::1]))
def scale(sums: Any, x_max: Any, weight_max: Any, out: Any) -> None:
    """``out = sums (x_max / 127) (weight_max / 127)``, rounded in this order.

    Shapes: sums and out (written) ``[R, N]``, x_max ``[R, 1]``, weight_max ``[N, 1]``.
    """
    rows, outputs = sums.shape
    for item in numba.prange((outputs + _SCALED - 1) // _SCALED):
        low, high = item * _SCALED, min(outputs, (item + 1) * _SCALED)
        _scale(sums, 0, rows, low, high, x_max, weight_max, out)


@compiled(numba.void(float32[:, ::1], int8[:, ::1], float32[:, ::1]))
def quantise(x: Any, out: Any, largest: Any) -> None:
    """``largest = absmax(row)``; ``out = round(x (127 / largest))``, half to even; 0 of a row of 0.

    A NaN or an infinity in a row is its largest, which makes what is computed with it a NaN.

    Shapes: x ``[M, N]``, out (written) ``[M, N]``, largest (written) ``[M, 1]``.
    """
    for m in numba.prange(x.shape[0]):
        row, line = x[m], out[m]
        bits, top = row.view(np.int32), int32(0)
        for n in range(row.shape[0]):
            # As whole numbers, magnitudes have the same order, and a NaN is above all of them.
            top = max(top, int32(bits[n] & int32(0x7FFFFFFF)))
        largest[m].view(np.int32)[0] = top
        step = float32(127) / (largest[m, 0] if top > 0 else float32(1))
        for n in range(row.shape[0]):
            line[n] = int8(int32(np.rint(row[n] * step)))
