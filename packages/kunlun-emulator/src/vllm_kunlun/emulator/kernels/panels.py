# SPDX-License-Identifier: Apache-2.0
"""One row times a weight that lies in panels, as oneDNN packs it.

A panel is some of the weight's rows (outputs), column by column: the row is read once, from one
end of the memory to the other, and what comes next is asked for early. oneDNN itself serves any
number of rows, and reads four fifths as fast.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import float32, types, uint16, uint32
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.items import narrowed, of_bfloat16
from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["row_by_float32", "row_by_pairs"]

_AHEAD_BYTES = 2048
_LINE_BYTES = 64


@intrinsic
def _fetch(context, array, offset):  # type: ignore[no-untyped-def]
    """Ask for memory ``offset`` bytes behind the start of a contiguous array."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.gep(builder.bitcast(start, byte), [arguments[1]])
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [place, word(0), word(3), word(1)])  # read, near, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@numba.njit(inline="always")
def _low(word):  # type: ignore[no-untyped-def]
    return of_bfloat16(uint16(word))


@numba.njit(inline="always")
def _high(word):  # type: ignore[no-untyped-def]
    return of_bfloat16(uint16(word >> uint32(16)))


@numba.njit(fastmath=FAST)
def _begin(bias, first, line):  # type: ignore[no-untyped-def]
    for n in range(line.shape[0]):
        line[n] = bias[first + n] if bias.shape[0] else float32(0)


_row = float32[::1]


@compiled(numba.void(float32[:, :, ::1], _row, _row, _row))
def row_by_float32(panels: Any, x: Any, bias: Any, out: Any) -> None:
    """``out = x W^T + bias`` with ``W[p B + n, k] = panels[p, k, n]``.

    Shapes: panels ``[N / B, K, B]``, x ``[K]``, bias ``[N]`` or empty, out ``[N]`` (written).
    """
    inputs, width = panels.shape[1], panels.shape[2]
    for p in numba.prange(panels.shape[0]):
        line = out[p * width : (p + 1) * width]
        _begin(bias, p * width, line)
        eights = inputs // 8 * 8
        for k in range(0, eights, 8):
            w = panels[p, k : k + 8]
            ahead = (p * inputs + k) * width * 4 + _AHEAD_BYTES
            for offset in range(0, 8 * width * 4, _LINE_BYTES):
                _fetch(panels, ahead + offset)
            a, b, c, d = x[k], x[k + 1], x[k + 2], x[k + 3]
            e, f, g, h = x[k + 4], x[k + 5], x[k + 6], x[k + 7]
            for n in range(width):
                line[n] += ((a * w[0, n] + b * w[1, n]) + (c * w[2, n] + d * w[3, n])) + (
                    (e * w[4, n] + f * w[5, n]) + (g * w[6, n] + h * w[7, n])
                )
        for k in range(eights, inputs):
            for n in range(width):
                line[n] += x[k] * panels[p, k, n]


@compiled(numba.void(uint32[:, :, ::1], uint16[::1], _row, _row, uint16[::1]))
def row_by_pairs(panels: Any, x: Any, bias: Any, sums: Any, out: Any) -> None:
    """The same in bfloat16: two of an output's inputs lie side by side in a word.

    ``panels[p, i, n]`` has the bits of ``W[p B + n, 2 i]`` below those of ``W[p B + n, 2 i + 1]``.
    Sums are float32, and rounded to the nearest bfloat16 (of two, to the even one) at the end.

    Shapes: panels ``[N / B, K / 2, B]``, x ``[K]`` and out ``[N]`` the bits of bfloat16, bias
    ``[N]`` or empty, sums ``[N]`` (written).
    """
    pairs, width = panels.shape[1], panels.shape[2]
    for p in numba.prange(panels.shape[0]):
        line = sums[p * width : (p + 1) * width]
        _begin(bias, p * width, line)
        twos = pairs // 2 * 2
        for i in range(0, twos, 2):
            ahead = (p * pairs + i) * width * 4 + _AHEAD_BYTES
            for offset in range(0, 2 * width * 4, _LINE_BYTES):
                _fetch(panels, ahead + offset)
            a, b = of_bfloat16(x[2 * i]), of_bfloat16(x[2 * i + 1])
            c, d = of_bfloat16(x[2 * i + 2]), of_bfloat16(x[2 * i + 3])
            for n in range(width):
                v, w = panels[p, i, n], panels[p, i + 1, n]
                line[n] += (a * _low(v) + b * _high(v)) + (c * _low(w) + d * _high(w))
        for i in range(twos, pairs):
            a, b = of_bfloat16(x[2 * i]), of_bfloat16(x[2 * i + 1])
            for n in range(width):
                v = panels[p, i, n]
                line[n] += a * _low(v) + b * _high(v)
        nearest = out[p * width : (p + 1) * width]
        for n in range(width):
            nearest[n] = narrowed(line[n], nearest)
