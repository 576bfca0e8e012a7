# SPDX-License-Identifier: Apache-2.0
"""Rows of int8 by matrices that stay where they lie, in a processor's tile registers (AMX).

A tile holds 16 rows of 64 bytes. One instruction adds the products of a tile's rows with the
columns of another one to 16 x 16 sums in 32 bits, and wants the second with four bytes of a column
beside each other. The weight is the first as it lies. 16 rows of ``x`` at a time are turned, once,
to be the second, and the sums are turned back as they are stored.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.int8 import SIGNATURE, multiply_few, scale_of, scaled
from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["ROWS", "WIDTH", "is_there", "multiply"]

WIDTH = 64
"""The width of a matrix is a multiple of this."""
ROWS = 32
"""A matrix has at least so many rows: two tiles, which are multiplied at a time."""
_FEW_ROWS = 2
"""Up to here the rows of a matrix are multiplied where they lie."""
_TILE, _TILE_BYTES = 16, 1024
_CHUNK = 256
"""Rows of x by which a part of a matrix is multiplied at a time: both stay in the second cache."""

_SHAPES: Any = np.zeros(64, np.uint8)
"""Of the eight registers, as the processor wants them: each has 16 rows of 64 bytes."""
_SHAPES[0] = 1
_SHAPES[16:32].view(np.uint16)[:] = WIDTH
_SHAPES[48:56] = _TILE

_byte, _word, _long = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_address = _byte.as_pointer()
_line = ir.VectorType(_word, _TILE)


@cache
def is_there() -> bool:
    """Whether this processor has the tiles and the system lets this process use them."""
    if numba.config.CPU_NAME is not None or numba.config.CPU_FEATURES is not None:
        return False  # compiled for another processor than this one
    features = binding.get_host_cpu_features()
    wanted = ("amx-tile", "amx-int8", "avx512bw")
    ask = getattr(torch.cpu, "_init_amx", None)  # not in every torch
    return all(features.get(each) for each in wanted) and ask is not None and bool(ask())


def _at(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(builder.bitcast(data, _address), [offset])


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kinds = [argument.type for argument in arguments]
    function = ir.FunctionType(ir.VoidType(), kinds)
    builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


@intrinsic
def _configure(context, shapes):  # type: ignore[no-untyped-def]
    """Give the registers of this thread their shapes."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        zero = ir.Constant(_long, 0)
        where = _at(context, builder, signature.args[0], arguments[0], zero)
        _call(builder, "llvm.x86.ldtilecfg", where)
        return context.get_dummy_value()

    return types.void(shapes), generate


@intrinsic
def _release(context):  # type: ignore[no-untyped-def]
    """Leave the registers of this thread as they were before :func:`_configure`."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _call(builder, "llvm.x86.tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


def _product(columns: int) -> Any:
    """Two tiles of a matrix by ``columns`` (1 or 2) of x."""

    @intrinsic
    def product(context, weight, row, stride, steps, turned, at, sums):  # type: ignore[no-untyped-def]
        """``sums[column][half] = W[row + 16 half ..] x^T``; ``row`` and ``at`` are in bytes."""
        signature = types.void(weight, row, stride, steps, turned, at, sums)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, row, stride, steps, _, at, _ = arguments

            def register(number: int) -> Any:
                return ir.Constant(_byte, number)

            def load(number: int, address: Any, stride: Any) -> None:
                _call(builder, "llvm.x86.tileloadd64", register(number), address, stride)

            def start(argument: int, offset: Any) -> Any:
                kind, array = signature.args[argument], arguments[argument]
                return _at(context, builder, kind, array, offset)

            zero, line = ir.Constant(_long, 0), ir.Constant(_long, WIDTH)
            matrix, x, out = start(0, row), start(4, at), start(6, zero)
            next_tile = builder.mul(steps, ir.Constant(_long, _TILE_BYTES))
            below = builder.mul(stride, ir.Constant(_long, _TILE))
            for total in range(2 * columns):
                _call(builder, "llvm.x86.tilezero", register(total))
            with cgutils.for_range(builder, steps) as loop:
                left = builder.gep(matrix, [builder.mul(loop.index, line)])
                bytes_ = builder.mul(loop.index, ir.Constant(_long, _TILE_BYTES))
                right = builder.gep(x, [bytes_])
                load(4, left, stride)
                load(5, builder.gep(left, [below]), stride)
                for column in range(columns):
                    load(6 + column, right, line)
                    right = builder.gep(right, [next_tile])
                for column in range(columns):
                    for half in range(2):
                        numbers = (2 * column + half, 4 + half, 6 + column)
                        _call(builder, "llvm.x86.tdpbssd", *map(register, numbers))
            for total in range(2 * columns):
                address = builder.gep(out, [ir.Constant(_long, total * _TILE_BYTES)])
                _call(builder, "llvm.x86.tilestored64", register(total), address, line)
            return context.get_dummy_value()

        return signature, generate

    return product


_one, _two = _product(1), _product(2)


@intrinsic
def _turn(context, x, start, stride, rows, out, to, out_stride, out_rows):  # type: ignore[no-untyped-def]
    """``out[j, i] = x[i, j]`` of 16 x 16 words; places and strides in bytes.

    Only the first ``rows`` of ``x`` are read and the first ``out_rows`` of ``out`` written.
    """
    signature = types.void(x, start, stride, rows, out, to, out_stride, out_rows)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, start, stride, rows, _, to, out_stride, out_rows = arguments
        source = _at(context, builder, signature.args[0], arguments[0], start)
        target = _at(context, builder, signature.args[4], arguments[4], to)

        def line(first: Any, number: int, stride: Any, rows: Any) -> Any:
            """The place of a line, or of the last that there is."""
            index, last = ir.Constant(_long, number), builder.sub(rows, ir.Constant(_long, 1))
            index = builder.select(builder.icmp_signed("<", index, rows), index, last)
            place = builder.gep(first, [builder.mul(index, stride)])
            return builder.bitcast(place, _line.as_pointer())

        lines = [
            builder.load(line(source, number, stride, rows), align=1) for number in range(_TILE)
        ]
        for apart in (1, 2, 4, 8):
            for i in range(_TILE):
                if i & apart:
                    continue
                a, b = lines[i], lines[i + apart]
                low = [j if not j & apart else _TILE + j - apart for j in range(_TILE)]
                high = [j + apart if not j & apart else _TILE + j for j in range(_TILE)]
                lines[i], lines[i + apart] = (
                    builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_word, _TILE), order))
                    for order in (low, high)
                )
        # From the last to the first, so that the last that there is gets its own in the end.
        for number in reversed(range(_TILE)):
            builder.store(lines[number], line(target, number, out_stride, out_rows), align=1)
        return context.get_dummy_value()

    return signature, generate


@numba.njit(fastmath=FAST)
def _scale(sums, row, x_scales, weight_scales):  # type: ignore[no-untyped-def]
    """Sums of two tiles by two as the bits of float32; the rows of ``sums`` are outputs."""
    values = sums.view(np.float32)
    for part in range(4):
        here, low = row + part // 2 * _TILE, part % 2 * _TILE
        for n in range(_TILE):
            for m in range(_TILE):
                values[part, n, m] = scaled(
                    sums[part, n, m], x_scales[here + m], weight_scales[low + n]
                )


@numba.njit(fastmath=FAST)
def _multiply(turned, at, first_row, last_row, weight, place, low, x_scales, weight_max, out):  # type: ignore[no-untyped-def]
    """The rows of a group by :data:`ROWS` rows of its matrix, the bytes of ``weight`` from place.

    ``at`` is where the first of the rows lies in ``turned``.
    """
    columns, width = out.shape[1], weight.shape[2]
    steps = width // WIDTH
    sums: Any = np.empty((4, _TILE, _TILE), np.int32)
    weight_scales: Any = np.empty(ROWS, np.float32)
    if x_scales.shape[0] > 0:
        for n in range(ROWS):
            weight_scales[n] = scale_of(weight_max[low + n, 0])
    _configure(_SHAPES)
    for row in range(first_row, last_row, 2 * _TILE):
        there = at + (row - first_row) * width
        if row + _TILE < last_row:
            _two(weight, place, width, steps, turned, there, sums)
        else:
            _one(weight, place, width, steps, turned, there, sums)
        if x_scales.shape[0] > 0:
            _scale(sums, row, x_scales, weight_scales)
        for part in range(4):
            here, column = row + part // 2 * _TILE, low + part % 2 * _TILE
            if here < last_row:
                _turn(
                    sums, part * _TILE_BYTES, WIDTH, _TILE, out, (here * columns + column) * 4,
                    columns * 4, min(_TILE, last_row - here),
                )  # fmt: skip
    _release()


@compiled(SIGNATURE)
def multiply(x: Any, weight: Any, ends: Any, x_max: Any, weight_max: Any, out: Any) -> None:
    """As :func:`.int8.multiply`, where :func:`is_there`.

    Shapes: as there; ``K`` is a multiple of :data:`WIDTH`, ``N`` at least :data:`ROWS`.
    """
    groups, columns, width = weight.shape
    steps, blocks = width // WIDTH, (columns + ROWS - 1) // ROWS
    # Each group starts with a tile of its own; groups of a few rows have none.
    tiles: Any = np.empty(groups + 1, np.int64)
    tiles[0], largest = 0, 0
    for group in range(groups):
        rows = ends[group] - (ends[group - 1] if group > 0 else 0)
        largest = max(largest, rows)
        needed = (rows + _TILE - 1) // _TILE if rows > _FEW_ROWS else 0
        tiles[group + 1] = tiles[group] + needed
    turned = np.empty(tiles[groups] * steps * _TILE_BYTES, np.int8)
    for group in range(groups):
        start = ends[group - 1] if group > 0 else 0
        for tile in range(tiles[group], tiles[group + 1]):
            row = start + (tile - tiles[group]) * _TILE
            rows = min(_TILE, ends[group] - row)
            for step in range(steps):
                place, to = row * width + step * WIDTH, (tile * steps + step) * _TILE_BYTES
                _turn(x, place, width, rows, turned, to, WIDTH, _TILE)
    # Whole tiles read beyond the last row.
    x_scales: Any = np.zeros(x_max.shape[0] + 2 * _TILE if x_max.shape[0] > 0 else 0, np.float32)
    for row in range(x_max.shape[0]):
        x_scales[row] = scale_of(x_max[row, 0])
    chunks = (largest + _CHUNK - 1) // _CHUNK
    for item in numba.prange(chunks * groups * blocks):
        chunk, group = item // (groups * blocks), item // blocks % groups
        start = ends[group - 1] if group > 0 else 0
        first = start + chunk * _CHUNK
        last = min(first + _CHUNK, ends[group])
        low = item % blocks * ROWS
        if first >= last:
            continue
        largest_of = weight_max[min(group, weight_max.shape[0] - 1)]
        if tiles[group] == tiles[group + 1]:
            high = min(low + ROWS, columns)
            multiply_few(x, first, last, weight[group], low, high, x_max, largest_of, out)
        else:
            # The last block of a matrix reaches back into the one before it.
            low = min(low, columns - ROWS)
            at = tiles[group] * steps * _TILE_BYTES + (first - start) * width
            place = (group * columns + low) * width
            _multiply(turned, at, first, last, weight, place, low, x_scales, largest_of, out)
