# SPDX-License-Identifier: Apache-2.0
"""Products of a few rows of float32 by the rows of a page, in vectors of the processor's width.

The compiler's own loops add up the lanes of each product by itself, and hold 16-bit pages twice.
Here a vector full of sums is added up at once, each row of a page is widened in a register, and
serves up to four rows before it is forgotten. A page is read row after row, as the processor
expects, while the page after it is fetched. Any processor can run this; how wide its vectors
are is all that differs.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.intrinsics import ask_for, call
from vllm_kunlun.ops.compiled import FAST

__all__ = ["WIDTH", "add_rows", "dot_rows", "largest_of", "multiply_add", "powers", "splat"]


def _width() -> int:
    if numba.config.CPU_NAME is not None or numba.config.CPU_FEATURES is not None:
        return 8  # compiled for another processor than this one
    return 16 if binding.get_host_cpu_features().get("avx512f") else 8


WIDTH = _width()
"""Lanes of a vector: the size of a head and the columns of scores are multiples of it."""
_CHUNKS = WIDTH // 4
"""Vectors of a row that are summed at a time: four rows' sums fill the registers."""
_STRIP = 4
"""Vectors of each row that are multiplied in one step of a loop."""
_LINE_BYTES = 64
"""What a cache fetches at a time."""

_float, _long, _byte = ir.FloatType(), ir.IntType(64), ir.IntType(8)
_vector, _words = ir.VectorType(_float, WIDTH), ir.VectorType(ir.IntType(32), WIDTH)


def _number(value: int) -> Any:
    return ir.Constant(_long, value)


def _all(kind: Any, value: Any) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _lanes(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
    return builder.shuffle_vector(a, b, mask)


def splat(builder: Any, value: Any) -> Any:
    """A vector with a float32 in each lane."""
    first = builder.insert_element(ir.Constant(_vector, ir.Undefined), value, ir.IntType(32)(0))
    return _lanes(builder, first, first, [0] * WIDTH)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a b + c`` of vectors, rounded once where the processor can."""
    return call(builder, f"llvm.fmuladd.v{WIDTH}f32", _vector, a, b, c)


class _Rows:
    """An array of two dimensions whose last is contiguous."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.item = builder, kind.dtype
        self.data = builder.bitcast(array.data, _byte.as_pointer())
        self.stride, _ = cgutils.unpack_tuple(builder, array.strides, 2)
        self.bytes = _number(kind.dtype.bitwidth // 8)

    def row(self, index: Any) -> Any:
        return self.builder.gep(self.data, [self.builder.mul(index, self.stride)])

    def at(self, row: Any, column: Any) -> Any:
        return self.builder.gep(row, [self.builder.mul(column, self.bytes)])

    def load(self, row: Any, column: Any) -> Any:
        """A vector of float32, widened from what the array holds."""
        builder, place = self.builder, self.at(row, column)
        if self.item == types.float32:
            return builder.load(builder.bitcast(place, _vector.as_pointer()), align=1)
        half = self.item == types.int16
        narrow = ir.VectorType(ir.HalfType() if half else ir.IntType(16), WIDTH)
        value = builder.load(builder.bitcast(place, narrow.as_pointer()), align=1)
        if half:
            return builder.fpext(value, _vector)
        bits = builder.shl(builder.zext(value, _words), _all(_words, 16))
        return builder.bitcast(bits, _vector)

    def fetch(self, row: Any, column: Any) -> None:
        """Ask for what will be read after what the nearest cache holds now."""
        ask_for(self.builder, self.at(row, column), near=False)

    def store(self, value: Any, row: Any, column: Any) -> None:
        place = self.builder.bitcast(self.at(row, column), value.type.as_pointer())
        self.builder.store(value, place, align=1)


def _sum_pairs(builder: Any, vectors: list[Any], half: int) -> list[Any]:
    """One vector for each two neighbours: of ``2 half`` lanes, the upper half is the second's.

    Each lane is the sum of two lanes of its vector, ``half`` apart. After ``half`` was 1, 2, 4 ..
    lane ``i`` of the one vector left is the sum of the lanes of the ``i``-th.
    """
    lanes = [lane + (WIDTH if lane & half else 0) for lane in range(WIDTH)]
    others = [lane ^ half for lane in lanes]
    return [
        builder.fadd(_lanes(builder, a, b, lanes), _lanes(builder, a, b, others))
        for a, b in zip(vectors[::2], vectors[1::2], strict=True)
    ]


def _sum_all(builder: Any, vectors: list[Any], half: int) -> Any:
    """The one vector that :func:`_sum_pairs` leaves, from ``half`` on."""
    while len(vectors) > 1:
        vectors, half = _sum_pairs(builder, vectors, half), 2 * half
    return vectors[0]


def _add_products(builder: Any, factor: Any, values: list[Any], totals: list[Any]) -> None:
    for value, total in zip(values, totals, strict=True):
        builder.store(multiply_add(builder, factor, value, builder.load(total)), total)


def _fetch(builder: Any, ahead: _Rows, lines: list[Any], column: Any, chunks: int) -> None:
    """Ask for ``chunks`` vectors of some rows from a column on, no line of the cache twice."""
    step = max(_LINE_BYTES // (ahead.item.bitwidth // 8), WIDTH)
    for line in lines:
        for offset in range(0, chunks * WIDTH, step):
            ahead.fetch(line, builder.add(column, _number(offset)))


def _dots(heads: int) -> Any:
    keys = 4 if heads < 3 else 2  # side by side: more would be as many streams from memory

    @intrinsic
    def dots(context, x, first, page, ahead, t, low, last, scale, out):  # type: ignore[no-untyped-def]
        signature = types.void(x, first, page, ahead, t, low, last, scale, out)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, first, _, _, t, low, last, scale, _ = arguments
            x, page, ahead, out = (
                _Rows(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 3, 8)
            )
            (_, size) = cgutils.unpack_tuple(
                builder,
                context.make_array(signature.args[0])(context, builder, arguments[0]).shape,
                2,
            )
            is_first = builder.icmp_signed("==", first, _number(0))
            rows = [x.row(builder.add(first, _number(head))) for head in range(heads)]
            with builder.goto_entry_block():
                kept = builder.alloca(ir.ArrayType(ir.ArrayType(_vector, heads), WIDTH // keys))
                totals = [[builder.alloca(_vector) for _ in range(keys)] for _ in rows]

            def place(step: Any, head: int) -> Any:
                return builder.gep(kept, [_number(0), step, _number(head)])

            with cgutils.for_range(builder, _number(WIDTH // keys)) as steps:
                start = builder.add(t, builder.mul(steps.index, _number(keys)))
                indices = [builder.add(start, _number(key)) for key in range(keys)]
                indices = [
                    builder.select(builder.icmp_signed(">", index, last), last, index)
                    for index in indices
                ]
                lines, next_lines = ([each.row(i) for i in indices] for each in (page, ahead))
                for total in [total for head in totals for total in head]:
                    builder.store(_all(_vector, 0.0), total)

                def add(column: Any, chunks: int) -> None:
                    with builder.if_then(is_first):
                        _fetch(builder, ahead, next_lines, column, chunks)
                    for chunk in range(chunks):
                        place = builder.add(column, _number(chunk * WIDTH))
                        values = [page.load(line, place) for line in lines]
                        for row, head in zip(rows, totals, strict=True):
                            _add_products(builder, x.load(row, place), values, head)

                strip = _number(_STRIP * WIDTH)
                whole = builder.mul(builder.sdiv(size, strip), strip)
                with cgutils.for_range_slice(builder, _number(0), whole, strip) as (column, _):
                    add(column, _STRIP)
                vector = _number(WIDTH)
                with cgutils.for_range_slice(builder, whole, size, vector) as (column, _):
                    add(column, 1)
                for head, sums in enumerate(totals):
                    vectors = [builder.load(total) for total in sums]
                    builder.store(_sum_all(builder, vectors, 1), place(steps.index, head))
            scales, column = splat(builder, scale), builder.sub(t, low)
            for head in range(heads):
                vectors = [builder.load(place(_number(i), head)) for i in range(WIDTH // keys)]
                row = out.row(builder.add(first, _number(head)))
                out.store(builder.fmul(_sum_all(builder, vectors, keys), scales), row, column)
            return context.get_dummy_value()

        return signature, generate

    return dots


def _sums(heads: int, chunks: int) -> Any:
    @intrinsic
    def sums(context, weights, first, page, ahead, low, count, column, out):  # type: ignore[no-untyped-def]
        signature = types.void(weights, first, page, ahead, low, count, column, out)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, first, _, _, low, count, column, _ = arguments
            weights, page, ahead, out = (
                _Rows(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 3, 7)
            )
            heads_ = [builder.add(first, _number(head)) for head in range(heads)]
            factors = [weights.row(head) for head in heads_]
            results = [out.row(head) for head in heads_]
            columns = [builder.add(column, _number(chunk * WIDTH)) for chunk in range(chunks)]
            totals = [
                [cgutils.alloca_once_value(builder, out.load(row, place)) for place in columns]
                for row in results
            ]
            with cgutils.for_range(builder, count) as loop:
                index = builder.add(low, loop.index)
                _fetch(builder, ahead, [ahead.row(index)], column, chunks)
                line = page.row(index)
                values = [page.load(line, place) for place in columns]
                for factor, head in zip(factors, totals, strict=True):
                    place = weights.at(factor, loop.index)
                    weight = builder.load(builder.bitcast(place, _float.as_pointer()), align=4)
                    _add_products(builder, splat(builder, weight), values, head)
            for row, head in zip(results, totals, strict=True):
                for place, total in zip(columns, head, strict=True):
                    out.store(builder.load(total), row, place)
            return context.get_dummy_value()

        return signature, generate

    return sums


_dots_4, _dots_3, _dots_2, _dots_1 = (_dots(heads) for heads in (4, 3, 2, 1))
_sums_4, _sums_3, _sums_2, _sums_1 = (_sums(heads, _CHUNKS) for heads in (4, 3, 2, 1))
_last_4, _last_3, _last_2, _last_1 = (_sums(heads, 1) for heads in (4, 3, 2, 1))


@numba.njit(fastmath=FAST)
def dot_rows(x, page, ahead, low, high, scale, out):  # type: ignore[no-untyped-def]
    """``out[g, t - low] = scale x[g] . page[t]`` for ``low <= t < high``.

    Rows ``low`` to ``high`` of ``ahead`` are fetched from memory meanwhile.

    Shapes: x float32 ``[G, D]``, page and ahead ``[bs, D]``, out float32 ``[G, columns]`` (written
    up to the next multiple of :data:`WIDTH` after ``high - low``, where it has no meaning).
    """
    group, last = x.shape[0], high - 1
    fours = group // 4 * 4
    left = group - fours
    for t in range(low, high, WIDTH):
        for g in range(0, fours, 4):
            _dots_4(x, g, page, ahead, t, low, last, scale, out)
        if left == 3:
            _dots_3(x, fours, page, ahead, t, low, last, scale, out)
        elif left == 2:
            _dots_2(x, fours, page, ahead, t, low, last, scale, out)
        elif left == 1:
            _dots_1(x, fours, page, ahead, t, low, last, scale, out)


@numba.njit(fastmath=FAST)
def add_rows(weights, page, ahead, low, high, out):  # type: ignore[no-untyped-def]
    """``out[g] += sum over low <= t < high of weights[g, t - low] page[t]``.

    ``ahead`` as in :func:`dot_rows`.

    Shapes: weights float32 ``[G, columns]``, page and ahead ``[bs, D]``, out float32 ``[G, D]``
    (written).
    """
    group, size = out.shape
    fours, count = group // 4 * 4, high - low
    left = group - fours
    whole = size // (_CHUNKS * WIDTH) * (_CHUNKS * WIDTH)
    for column in range(0, whole, _CHUNKS * WIDTH):
        for g in range(0, fours, 4):
            _sums_4(weights, g, page, ahead, low, count, column, out)
        if left == 3:
            _sums_3(weights, fours, page, ahead, low, count, column, out)
        elif left == 2:
            _sums_2(weights, fours, page, ahead, low, count, column, out)
        elif left == 1:
            _sums_1(weights, fours, page, ahead, low, count, column, out)
    for column in range(whole, size, WIDTH):
        for g in range(0, fours, 4):
            _last_4(weights, g, page, ahead, low, count, column, out)
        if left == 3:
            _last_3(weights, fours, page, ahead, low, count, column, out)
        elif left == 2:
            _last_2(weights, fours, page, ahead, low, count, column, out)
        elif left == 1:
            _last_1(weights, fours, page, ahead, low, count, column, out)


_LOG2_E, _LOWEST = 1.4426950408889634, -87.0
# ln 2 in two parts, of which the first has so few bits that its product with an integer is exact.
_LN_2 = (0.693359375, -2.12194440e-4)
_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
               5.0000001201e-1)  # fmt: skip


def _function(builder: Any, name: str, kind: Any, *inputs: Any, **flags: Any) -> Any:
    kinds = ir.FunctionType(kind, [each.type for each in inputs])
    function = cgutils.get_or_insert_function(builder.module, kinds, f"{name}.v{WIDTH}f32")
    return builder.call(function, inputs, **flags)


@intrinsic
def largest_of(context, rows, row, count, start):  # type: ignore[no-untyped-def]
    """The maximum of ``start`` and a row. It may miss a NaN, which :func:`powers` then shows.

    Shapes: rows float32 ``[G, columns]``, ``count`` a multiple of :data:`WIDTH`.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, row, count, start = arguments
        array = _Rows(context, builder, signature.args[0], arguments[0])
        line = array.row(row)
        total = cgutils.alloca_once_value(builder, splat(builder, start))
        with cgutils.for_range(builder, builder.sdiv(count, _number(WIDTH))) as loop:
            x, top = array.load(line, builder.mul(loop.index, _number(WIDTH))), builder.load(total)
            builder.store(builder.select(builder.fcmp_ordered(">", x, top), x, top), total)
        flags = {"fastmath": ("nnan", "nsz")}
        return _function(builder, "llvm.vector.reduce.fmax", _float, builder.load(total), **flags)

    return types.float32(rows, row, count, start), generate


@intrinsic
def powers(context, rows, row, count, largest):  # type: ignore[no-untyped-def]
    """``rows[row] = e^(rows[row] - largest)`` in place; returns the sum of the row.

    What is below ``e^-87`` is 0, a NaN stays one. ``largest`` is at least what is in the row.
    ``e^x = 2^n e^r`` with a polynomial for ``e^r``, as in :mod:`.exponential`.

    Shapes: rows float32 ``[G, columns]``, ``count`` a multiple of :data:`WIDTH`.
    """
    signature = types.float32(rows, row, count, largest)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, row, count, largest = arguments
        array = _Rows(context, builder, signature.args[0], arguments[0])
        line, top = array.row(row), splat(builder, largest)
        total = cgutils.alloca_once(builder, _vector)
        builder.store(_all(_vector, 0.0), total)

        def times_plus(a: Any, b: float | Any, c: float | Any) -> Any:
            b, c = (_all(_vector, each) if isinstance(each, float) else each for each in (b, c))
            return multiply_add(builder, a, b, c)

        with cgutils.for_range(builder, builder.sdiv(count, _number(WIDTH))) as loop:
            column = builder.mul(loop.index, _number(WIDTH))
            x = builder.fsub(array.load(line, column), top)
            is_small = builder.fcmp_ordered("<", x, _all(_vector, _LOWEST))
            x = builder.select(is_small, _all(_vector, _LOWEST), x)
            n = _function(builder, "llvm.floor", _vector, times_plus(x, _LOG2_E, 0.5))
            r = times_plus(n, -_LN_2[0], x)
            r = times_plus(n, -_LN_2[1], r)
            y = _all(_vector, _POLYNOMIAL[0])
            for coefficient in _POLYNOMIAL[1:]:
                y = times_plus(y, r, coefficient)
            y = times_plus(builder.fmul(y, r), r, builder.fadd(r, _all(_vector, 1.0)))
            exponent = builder.add(builder.fptosi(n, _words), _all(_words, 127))
            scale = builder.bitcast(builder.shl(exponent, _all(_words, 23)), _vector)
            y = builder.select(is_small, _all(_vector, 0.0), builder.fmul(y, scale))
            array.store(y, line, column)
            builder.store(builder.fadd(builder.load(total), y), total)
        zero, flags = ir.Constant(_float, 0.0), {"fastmath": ("reassoc",)}
        return _function(
            builder, "llvm.vector.reduce.fadd", _float, zero, builder.load(total), **flags
        )

    return signature, generate
