# SPDX-License-Identifier: Apache-2.0
"""A few rows times a weight that lies in panels, as oneDNN packs it.

A panel is some of the weight's rows (outputs), column by column. One row's sums stay in registers
while the panel is read once, from one end of its memory to the other, as fast as the memory gives
it. More rows take a part of the panel that the nearest cache holds, four at a time. oneDNN itself
serves any number of rows, and reads half as fast.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import float32, types, uint32
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.items import ITEMS, narrowed, widened
from vllm_kunlun.emulator.kernels.vectors import WIDTH, multiply_add, splat
from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["LOOPS", "WIDTHS"]

WIDTHS = tuple(count * WIDTH for count in (8, 6, 4, 3, 2, 1))
"""Outputs of a panel that there are loops for: that many vectors of sums."""
_ROWS = 4
_VECTORS = 4 if WIDTH == 16 else 3
"""So many rows and vectors are taken together: their sums stay in registers."""
_PART_BYTES = 1 << 14
"""Of a panel, that a group of rows after the other takes from the nearest cache."""

_number, _word, _float = ir.IntType(64), ir.IntType(32), ir.FloatType()
_vector, _words = ir.VectorType(_float, WIDTH), ir.VectorType(_word, WIDTH)


def _add(rows: int, vectors: int) -> Any:
    """``sums[m, p B + n] += sum over k of x[m, k] W[p B + n, k]`` of ``rows`` rows from ``m`` on.

    ``n`` runs over ``vectors`` vectors from ``column`` on, ``k`` over the words ``low`` to ``high``
    of the panel, ``B`` being its width.
    """

    @intrinsic
    def add(context, panels, p, low, high, column, x, m, sums):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, p, low, high, column, _, m, _ = arguments
            panels, x, sums = (
                context.make_array(signature.args[i])(context, builder, arguments[i])
                for i in (0, 5, 7)
            )
            _, words, width = cgutils.unpack_tuple(builder, panels.shape, 3)
            of_pairs = signature.args[0].dtype == types.uint32
            memory = builder.bitcast(panels.data, _word.as_pointer())

            def floats(place: Any) -> list[Any]:
                """What lies in each word: a float32, or of two bfloat16 the lower one first."""
                pointer = builder.bitcast(builder.gep(memory, [place]), _words.as_pointer())
                value = builder.load(pointer, align=4)
                if not of_pairs:
                    return [builder.bitcast(value, _vector)]
                lower = builder.shl(value, ir.Constant(_words, [16] * WIDTH))
                upper = builder.and_(value, ir.Constant(_words, [0xFFFF0000] * WIDTH))
                return [builder.bitcast(each, _vector) for each in (lower, upper)]

            def line(array: Any, row: int, start: Any) -> Any:
                """Where a row begins, ``start`` numbers further on."""
                _, length = cgutils.unpack_tuple(builder, array.shape, 2)
                index = builder.mul(builder.add(m, _number(row)), length)
                return builder.gep(array.data, [builder.add(index, start)])

            def vector(pointer: Any, i: int) -> Any:
                place = builder.gep(pointer, [_number(i * WIDTH)])
                return builder.bitcast(place, _vector.as_pointer())

            first = builder.add(builder.mul(p, width), column)
            results = [line(sums, row, first) for row in range(rows)]
            given = [line(x, row, _number(0)) for row in range(rows)]
            totals = [
                [
                    cgutils.alloca_once_value(builder, builder.load(vector(result, i), align=4))
                    for i in range(vectors)
                ]
                for result in results
            ]
            inside = 2 if of_pairs else 1
            with cgutils.for_range(builder, builder.sub(high, low)) as loop:
                k = builder.add(low, loop.index)
                word = builder.mul(builder.add(builder.mul(p, words), k), width)
                word = builder.add(word, column)
                input_ = builder.mul(k, _number(inside))
                factors = [
                    [
                        splat(builder, builder.load(builder.gep(row, [builder.add(input_, j)])))
                        for j in (_number(i) for i in range(inside))
                    ]
                    for row in given
                ]
                for i in range(vectors):
                    values = floats(builder.add(word, _number(i * WIDTH)))
                    for row, total in zip(factors, totals, strict=True):
                        for value, factor in zip(values, row, strict=True):
                            new = multiply_add(builder, value, factor, builder.load(total[i]))
                            builder.store(new, total[i])
            for result, total in zip(results, totals, strict=True):
                for i, each in enumerate(total):
                    builder.store(builder.load(each), vector(result, i), align=4)
            return context.get_dummy_value()

        return types.void(panels, p, low, high, column, x, m, sums), generate

    return add


_one_8, _one_6, _one_4, _one_3, _one_2, _one_1 = (_add(1, i) for i in (8, 6, 4, 3, 2, 1))
_four_4, _four_3, _four_2, _four_1 = (_add(_ROWS, i) for i in (4, 3, 2, 1))


@numba.njit(fastmath=FAST)
def _add_row(panels, p, x, sums):  # type: ignore[no-untyped-def]
    _, words, width = panels.shape
    vectors = width // WIDTH
    if vectors == 4:
        _one_4(panels, p, 0, words, 0, x, 0, sums)
    elif vectors == 3:
        _one_3(panels, p, 0, words, 0, x, 0, sums)
    elif vectors == 2:
        _one_2(panels, p, 0, words, 0, x, 0, sums)
    elif vectors == 1:
        _one_1(panels, p, 0, words, 0, x, 0, sums)
    elif vectors == 6:
        _one_6(panels, p, 0, words, 0, x, 0, sums)
    else:
        _one_8(panels, p, 0, words, 0, x, 0, sums)


@numba.njit(fastmath=FAST)
def _add_rows(panels, p, x, sums):  # type: ignore[no-untyped-def]
    _, words, width = panels.shape
    step = max(1, _PART_BYTES // (4 * width))
    for low in range(0, words, step):
        high = min(low + step, words)
        for column in range(0, width, _VECTORS * WIDTH):
            vectors = min(_VECTORS, (width - column) // WIDTH)
            for m in range(0, x.shape[0], _ROWS):
                if vectors == 4:
                    _four_4(panels, p, low, high, column, x, m, sums)
                elif vectors == 3:
                    _four_3(panels, p, low, high, column, x, m, sums)
                elif vectors == 2:
                    _four_2(panels, p, low, high, column, x, m, sums)
                else:
                    _four_1(panels, p, low, high, column, x, m, sums)


def _multiply(panels: Any, x: Any, bias: Any, out: Any) -> None:
    rows, inputs = x.shape
    # The last group is filled up with zeros.
    whole = rows if rows == 1 else (rows + _ROWS - 1) // _ROWS * _ROWS
    wide, sums = np.zeros((whole, inputs), np.float32), np.zeros((whole, out.shape[1]), np.float32)
    for m in range(rows):
        for k in range(inputs):
            wide[m, k] = widened(x[m, k])
    width = panels.shape[2]
    for p in numba.prange(panels.shape[0]):
        if rows == 1:
            _add_row(panels, p, wide, sums)
        else:
            _add_rows(panels, p, wide, sums)
        for m in range(rows):
            for n in range(p * width, (p + 1) * width):
                added = bias[n] if bias.shape[0] else float32(0)
                out[m, n] = narrowed(sums[m, n] + added, out)


def _loop(word: Any, item: Any) -> Any:
    signature = numba.void(word[:, :, ::1], item[:, ::1], float32[::1], item[:, ::1])
    return compiled(signature)(_multiply)


LOOPS = {
    torch.float32: _loop(float32, ITEMS[torch.float32]),
    torch.bfloat16: _loop(uint32, ITEMS[torch.bfloat16]),
}
"""``out = x W^T + bias`` by dtype, float32 sums, rounded once.

In float32 ``W[p B + n, k] = panels[p, k, n]``. In bfloat16 two of an output's inputs lie side by
side in a word: ``panels[p, i, n]`` has the bits of ``W[p B + n, 2 i]`` below those of
``W[p B + n, 2 i + 1]``.

Shapes: panels ``[N / B, K, B]`` (``[N / B, K / 2, B]``) with ``B`` of :data:`WIDTHS`, x ``[M, K]``,
bias ``[N]`` or empty, out ``[M, N]`` (written).
"""
