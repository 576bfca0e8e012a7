# SPDX-License-Identifier: Apache-2.0
"""One row times a weight that lies in panels, as oneDNN packs it.

A panel is some of the weight's rows (outputs), column by column. Its sums stay in registers while
the panel is read once, from one end of its memory to the other, as fast as the memory gives it.
oneDNN itself serves any number of rows, and reads half as fast.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import float32, types, uint16, uint32
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.items import narrowed
from vllm_kunlun.emulator.kernels.vectors import WIDTH, multiply_add, splat
from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["WIDTHS", "row_by_float32", "row_by_pairs"]

WIDTHS = tuple(count * WIDTH for count in (8, 6, 4, 3, 2, 1))
"""Outputs of a panel that there are loops for: that many vectors of sums."""

_number, _word, _float = ir.IntType(64), ir.IntType(32), ir.FloatType()
_vector, _words = ir.VectorType(_float, WIDTH), ir.VectorType(_word, WIDTH)


def _add_panel(count: int) -> Any:
    """``sums[p B + n] += sum over k of x[k] W[p B + n, k]``, ``B`` being ``count`` vectors."""

    @intrinsic
    def add_panel(context, panels, p, x, sums):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, p, _, _ = arguments
            panels, x, sums = (
                context.make_array(signature.args[i])(context, builder, arguments[i])
                for i in (0, 2, 3)
            )
            _, inputs, width = cgutils.unpack_tuple(builder, panels.shape, 3)
            of_pairs = signature.args[0].dtype == types.uint32

            def load(array: Any, place: Any, kind: Any, align: int = 4) -> Any:
                words = builder.bitcast(array.data, _word.as_pointer())
                pointer = builder.bitcast(builder.gep(words, [place]), kind.as_pointer())
                return builder.load(pointer, align=align)

            def floats(words: Any) -> list[Any]:
                """What lies in each word: a float32, or of two bfloat16 the lower one first."""
                if not of_pairs:
                    return [builder.bitcast(words, _vector)]
                low = builder.shl(words, ir.Constant(_words, [16] * WIDTH))
                high = builder.and_(words, ir.Constant(_words, [0xFFFF0000] * WIDTH))
                return [builder.bitcast(each, _vector) for each in (low, high)]

            first = builder.mul(p, width)
            places = [builder.add(first, _number(i * WIDTH)) for i in range(count)]
            totals = [
                cgutils.alloca_once_value(builder, load(sums, place, _vector)) for place in places
            ]
            with cgutils.for_range(builder, inputs) as loop:
                line = builder.mul(builder.add(builder.mul(p, inputs), loop.index), width)
                # Two numbers of 16 bits may lie at any even address.
                word = load(x, loop.index, _float, 2 if of_pairs else 4)
                factors = floats(builder.bitcast(splat(builder, word), _words))
                for i, total in enumerate(totals):
                    weights = load(panels, builder.add(line, _number(i * WIDTH)), _words)
                    for weight, factor in zip(floats(weights), factors, strict=True):
                        added = multiply_add(builder, weight, factor, builder.load(total))
                        builder.store(added, total)
            for place, total in zip(places, totals, strict=True):
                pointer = builder.bitcast(builder.gep(sums.data, [place]), _vector.as_pointer())
                builder.store(builder.load(total), pointer, align=4)
            return context.get_dummy_value()

        return types.void(panels, p, x, sums), generate

    return add_panel


_add_8, _add_6, _add_4, _add_3, _add_2, _add_1 = map(_add_panel, (8, 6, 4, 3, 2, 1))


@numba.njit(fastmath=FAST)
def _add(panels, p, x, bias, sums):  # type: ignore[no-untyped-def]
    width = panels.shape[2]
    for n in range(p * width, (p + 1) * width):
        sums[n] = bias[n] if bias.shape[0] else float32(0)
    vectors = width // WIDTH
    if vectors == 4:
        _add_4(panels, p, x, sums)
    elif vectors == 3:
        _add_3(panels, p, x, sums)
    elif vectors == 2:
        _add_2(panels, p, x, sums)
    elif vectors == 1:
        _add_1(panels, p, x, sums)
    elif vectors == 6:
        _add_6(panels, p, x, sums)
    else:
        _add_8(panels, p, x, sums)


_row = float32[::1]


@compiled(numba.void(float32[:, :, ::1], _row, _row, _row))
def row_by_float32(panels: Any, x: Any, bias: Any, out: Any) -> None:
    """``out = x W^T + bias`` with ``W[p B + n, k] = panels[p, k, n]``.

    Shapes: panels ``[N / B, K, B]`` with ``B`` of :data:`WIDTHS`, x ``[K]``, bias ``[N]`` or empty,
    out ``[N]`` (written).
    """
    for p in numba.prange(panels.shape[0]):
        _add(panels, p, x, bias, out)


@compiled(numba.void(uint32[:, :, ::1], uint16[::1], _row, _row, uint16[::1]))
def row_by_pairs(panels: Any, x: Any, bias: Any, sums: Any, out: Any) -> None:
    """The same in bfloat16: two of an output's inputs lie side by side in a word.

    ``panels[p, i, n]`` has the bits of ``W[p B + n, 2 i]`` below those of ``W[p B + n, 2 i + 1]``.
    Sums are float32, and rounded to the nearest bfloat16 (of two, to the even one) at the end.

    Shapes: panels ``[N / B, K / 2, B]``, x ``[K]`` and out ``[N]`` the bits of bfloat16, bias
    ``[N]`` or empty, sums ``[N]`` (written).
    """
    width = panels.shape[2]
    for p in numba.prange(panels.shape[0]):
        _add(panels, p, x, bias, sums)
        for n in range(p * width, (p + 1) * width):
            out[n] = narrowed(sums[n], out)
