# SPDX-License-Identifier: Apache-2.0
"""One row times a packed weight of 4 bits, as dot products of bytes.

A nibble is a byte from 0 to 15, and the processor adds four products of such a byte with a signed
one in one instruction (vpdpbusd; two where it has pmaddubsw alone). So the row is a sum of three
rows of int8, for each group of inputs: ``x = u (a + b / 254 + c / 254^2)`` with
``u = max|x| / 127``, which leaves 2^-24 of the group's largest number. Sums of a group are exact.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import boolean, float32, int8, int32, int64, types, uint8, uint32
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.intrinsics import call, load
from vllm_kunlun.ops.compiled import FAST, compiled

__all__ = ["BLOCK_BYTES", "along_inputs", "along_outputs", "is_there", "split"]

_STEP = 254.0
_AHEAD_BYTES, _AHEAD_ROWS = 256, 32
"""How far beyond what is read memory is asked for: along a row, or down the rows."""


def _instruction() -> tuple[str, int]:
    """The dot product of bytes that the loops are compiled for, and its sums; or none."""
    if numba.config.CPU_NAME is not None or numba.config.CPU_FEATURES is not None:
        return "", 0  # compiled for another processor than this one
    features = binding.get_host_cpu_features()
    if features.get("avx512vnni") and features.get("avx512bw"):
        return "llvm.x86.avx512.vpdpbusd.512", 16
    return ("llvm.x86.avx2.pmadd.ub.sw", 8) if features.get("avx2") else ("", 0)


_NAME, _SUMS = _instruction()
BLOCK_BYTES = 4 * _SUMS
"""Of each row that are multiplied at a time; a row is at least as long."""
_PIECES = 3
_BLOCKS = 16
"""That a thread takes at a time, at most."""

_word, _long, _byte = ir.IntType(32), ir.IntType(64), ir.IntType(8)
_words = ir.VectorType(_word, max(_SUMS, 1))
_bytes = ir.VectorType(_byte, max(4 * _SUMS, 1))
_pairs = ir.VectorType(ir.IntType(16), max(2 * _SUMS, 1))


def is_there() -> bool:
    """Whether this processor has what the loops are compiled to."""
    return _SUMS > 0


def _add_dots(builder: Any, total: Any, nibbles: Any, row: Any) -> Any:
    """``total`` and the four products of each lane. Pairs of them fit 16 bits: 2 * 15 * 127."""
    if _SUMS == 16:
        return call(builder, _NAME, _words, total, nibbles, row)
    sums = call(builder, _NAME, _pairs, builder.bitcast(nibbles, _bytes),
                builder.bitcast(row, _bytes))  # fmt: skip
    ones = ir.Constant(_pairs, [1] * _pairs.count)
    return builder.add(total, call(builder, "llvm.x86.avx2.pmadd.wd", _words, sums, ones))


def _place(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(builder.bitcast(data, _byte.as_pointer()), [offset])


def _splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_words, ir.Undefined), value, _word(0))
    mask = ir.Constant(ir.VectorType(_word, _SUMS), [0] * _SUMS)
    return builder.shuffle_vector(first, first, mask)


def _ask_for(builder: Any, place: Any) -> None:
    numbers = (_word(0), _word(3), _word(1))  # read, near, data
    call(builder, "llvm.prefetch.p0i8", ir.VoidType(), place, *numbers)


def _nibbles(builder: Any, value: Any, *, high: bool) -> Any:
    if high:
        value = builder.lshr(value, ir.Constant(_words, [4] * _SUMS))
    return builder.and_(value, ir.Constant(_words, [0x0F0F0F0F] * _SUMS))


def _quads(builder: Any, rows: list[Any]) -> list[Any]:
    """Bytes of four rows, those of one column beside each other: lane 4 i + j of vector v is column
    16 i + 4 v + j."""

    def mix(a: Any, b: Any, width: int, half: int) -> Any:
        """Interleave items of ``width`` bytes of one half of each 16 bytes."""
        order = []
        for lane in range(0, _bytes.count, 16):
            for item in range(8 // width):
                start = lane + 8 * half + item * width
                order += [start + byte for byte in range(width)]
                order += [_bytes.count + start + byte for byte in range(width)]
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_word, len(order)), order))

    first = [mix(rows[0], rows[1], 1, half) for half in (0, 1)]
    second = [mix(rows[2], rows[3], 1, half) for half in (0, 1)]
    mixed = [mix(first[v // 2], second[v // 2], 2, v % 2) for v in range(4)]
    return [builder.bitcast(each, _words) for each in mixed]


def _sums_of(along: str) -> Any:
    @intrinsic
    def sums(context, words, start, stride, count, x, at, high, out):  # type: ignore[no-untyped-def]
        """``out[piece, column]`` of ``count`` rows of words, from byte ``start`` on.

        The row's bytes lie at ``at``; ``high`` (a literal) is the nibble of AWQ's layout.
        """
        if not isinstance(high, types.Literal):
            return None
        upper = bool(high.literal_value)
        signature = types.void(words, start, stride, count, x, at, high, out)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            _, start, stride, count, _, at, _, _ = arguments
            source, row, target = (
                _place(context, builder, signature.args[i], arguments[i], offset)
                for i, offset in ((0, start), (4, at), (7, _long(0)))
            )
            zero = ir.Constant(_words, [0] * _SUMS)
            totals = [
                [cgutils.alloca_once_value(builder, zero) for _ in range(_PIECES)] for _ in range(4)
            ]

            def add(total: Any, nibbles: Any, piece: Any) -> None:
                builder.store(_add_dots(builder, builder.load(total), nibbles, piece), total)

            array = context.make_array(signature.args[4])(context, builder, arguments[4])
            apart, beside, _ = cgutils.unpack_tuple(builder, array.strides, 3)

            def pieces(index: Any, odd: int) -> list[Any]:
                offset = builder.mul(index, _long(4))
                offset = builder.add(offset, builder.mul(beside, _long(odd)))
                offsets = [
                    builder.add(offset, builder.mul(apart, _long(piece)))
                    for piece in range(_PIECES)
                ]
                return [_splat(builder, load(builder, row, each, _word)) for each in offsets]

            with cgutils.for_range(builder, count) as loop:
                if along == "inputs":
                    line = builder.gep(source, [builder.mul(loop.index, stride)])
                    even, odd = (pieces(loop.index, odd) for odd in (0, 1))
                    for v in range(4):
                        place = builder.gep(line, [_long(v * 4 * _SUMS)])
                        _ask_for(builder, builder.gep(place, [_long(_AHEAD_BYTES)]))
                        value = load(builder, place, _long(0), _words)
                        for upper_half, factors in ((False, even), (True, odd)):
                            nibbles = _nibbles(builder, value, high=upper_half)
                            for piece in range(_PIECES):
                                add(totals[v][piece], nibbles, factors[piece])
                else:
                    first = builder.mul(loop.index, builder.mul(stride, _long(4)))
                    line, rows = builder.gep(source, [first]), []
                    for _ in range(4):
                        if upper:
                            _ask_for(
                                builder,
                                builder.gep(line, [builder.mul(stride, _long(_AHEAD_ROWS))]),
                            )
                        rows.append(load(builder, line, _long(0), _bytes))
                        line = builder.gep(line, [stride])
                    factors = pieces(loop.index, 0)
                    for v, value in enumerate(_quads(builder, rows)):
                        nibbles = _nibbles(builder, value, high=upper)
                        for piece in range(_PIECES):
                            add(totals[v][piece], nibbles, factors[piece])
            quad = ir.VectorType(_word, 4)
            for v in range(4):
                for piece in range(_PIECES):
                    value = builder.load(totals[v][piece])
                    for lane in range(_SUMS // 4):
                        part = [4 * lane + each for each in range(4)]
                        part = builder.shuffle_vector(value, value, ir.Constant(quad, part))
                        column = 16 * lane + 4 * v if along == "outputs" else v * _SUMS + 4 * lane
                        place = builder.gep(target, [_long(4 * (piece * 4 * _SUMS + column))])
                        place = builder.bitcast(place, quad.as_pointer())
                        builder.store(part, place, align=4)
            return context.get_dummy_value()

        return signature, generate

    return sums


_along_inputs, _along_outputs = _sums_of("inputs"), _sums_of("outputs")


@numba.njit(fastmath=FAST)
def _split(x, factor, a, b, c):  # type: ignore[no-untyped-def]
    """Pieces of some inputs of a group, and the sum of each kind."""
    total_a = total_b = total_c = 0.0
    for k in range(x.shape[0]):
        value = np.float64(x[k]) * factor
        first = np.rint(value)
        value = (value - first) * _STEP
        second = np.rint(value)
        third = np.rint((value - second) * _STEP)
        a[k], b[k], c[k] = int8(int32(first)), int8(int32(second)), int8(int32(third))
        total_a, total_b, total_c = total_a + first, total_b + second, total_c + third
    return total_a, total_b, total_c


@compiled(boolean(float32[::1], int8[:, :, ::1], float32[:, ::1]))
def split(x: Any, pieces: Any, sums: Any) -> Any:
    """The three rows of int8, and for each group ``u`` and the sums of its pieces.

    False where a number is not finite: then it is no such sum, and nothing has been written.

    Shapes: x ``[K]``; written: pieces ``[3, 1, K]``, or ``[3, 2, K / 2]`` with the even inputs and
    the odd ones; sums ``[G, 4]``, where a group is a multiple of 4 inputs.
    """
    groups, apart = sums.shape[0], pieces.shape[1]
    group, bits = x.shape[0] // groups, x.view(np.int32)
    for k in range(x.shape[0]):
        if (bits[k] & int32(0x7FFFFFFF)) >= int32(0x7F800000):
            return False
    for g in numba.prange(groups):
        largest, start, stop = float32(0), g * group, (g + 1) * group
        for k in range(start, stop):
            largest = max(largest, abs(x[k]))
        factor = 127.0 / np.float64(largest) if largest > 0 else 0.0
        total_a = total_b = total_c = 0.0
        for odd in range(apart):
            low, high = start // apart, stop // apart
            a, b, c = _split(
                x[start + odd : stop : apart], factor, pieces[0, odd, low:high],
                pieces[1, odd, low:high], pieces[2, odd, low:high],
            )  # fmt: skip
            total_a, total_b, total_c = total_a + a, total_b + b, total_c + c
        sums[g, 0] = float32(np.float64(largest) / 127.0)
        sums[g, 1], sums[g, 2], sums[g, 3] = total_a, total_b, total_c
    return True


@numba.njit(fastmath=FAST)
def _add_group(dots, group_sums, zeros, scales, result):  # type: ignore[no-untyped-def]
    """``result += sum of x (q - z), times s``; whole numbers are exact below 2^24."""
    unit, a, b, c = group_sums[0], group_sums[1], group_sums[2], group_sums[3]
    for n in range(result.shape[0]):
        zero = zeros[n]
        total = (float32(dots[2, n]) - zero * c) * float32(1 / _STEP)
        total = (float32(dots[1, n]) - zero * b + total) * float32(1 / _STEP)
        result[n] += (float32(dots[0, n]) - zero * a + total) * (unit * scales[n])


_values = float32[:, ::1]
_planes = float32[:, :, ::1]


@compiled(numba.void(int8[:, :, ::1], _values, uint32[:, ::1], _values, _values, float32[::1]))
def along_inputs(pieces: Any, sums: Any, words: Any, zeros: Any, scales: Any, out: Any) -> None:
    """``out = x W`` with the weight of :func:`.int4.part_along_inputs`; a group is whole words.

    Shapes: pieces ``[3, 2, K / 2]`` and sums of :func:`split`, words ``[K / 8, N]``, zeros and
    scales ``[G, N]``, out ``[N]`` (written), ``4 N`` at least :data:`BLOCK_BYTES`.
    """
    (rows, columns), groups = words.shape, zeros.shape[0]
    width, count = 4 * _SUMS, rows // groups
    for item in numba.prange((columns + width - 1) // width):
        # The last block reaches back into the one before it.
        low = min(item * width, columns - width)
        result: Any = np.zeros(width, np.float32)
        dots: Any = np.empty((_PIECES, width), np.int32)
        for g in range(groups):
            start, at = (g * count * columns + low) * 4, g * count * 4
            _along_inputs(words, start, columns * 4, count, pieces, at, False, dots)
            _add_group(dots, sums[g], zeros[g, low : low + width], scales[g, low : low + width],
                       result)  # fmt: skip
        out[low : low + width] = result


@compiled(numba.void(int8[:, :, ::1], _values, uint8[:, ::1], _planes, _planes, int64, _values))
def along_outputs(
    pieces: Any, sums: Any, codes: Any, zeros: Any, scales: Any, threads: Any, out: Any
) -> None:
    """``out = x W`` with the weight of :func:`.int4.part_along_outputs`, in its two planes.

    Shapes: pieces ``[3, 1, K]`` and sums of :func:`split`, codes ``[K, N / 2]``, zeros and
    scales ``[G, 2, N / 2]``, out ``[2, N / 2]`` (written), ``N / 2`` at least :data:`BLOCK_BYTES`;
    a group is a multiple of 4 inputs.
    """
    (inputs, columns), groups = codes.shape, zeros.shape[0]
    width, count = BLOCK_BYTES, inputs // groups // 4
    blocks = (columns + width - 1) // width
    many = min(_BLOCKS, (blocks + threads - 1) // threads)
    for item in numba.prange((blocks + many - 1) // many):
        result = np.zeros((many, 2, width), np.float32)
        dots: Any = np.empty((_PIECES, width), np.int32)
        first, last = item * many, min(blocks, (item + 1) * many)
        for g in range(groups):
            for block in range(first, last):
                # The last block reaches back into the one before it.
                low = min(block * width, columns - width)
                start, at = g * count * 4 * columns + low, g * count * 4
                part = result[block - first]
                _along_outputs(codes, start, columns, count, pieces, at, True, dots)
                _add_group(dots, sums[g], zeros[g, 0, low : low + width],
                           scales[g, 0, low : low + width], part[0])  # fmt: skip
                _along_outputs(codes, start, columns, count, pieces, at, False, dots)
                _add_group(dots, sums[g], zeros[g, 1, low : low + width],
                           scales[g, 1, low : low + width], part[1])  # fmt: skip
        for block in range(first, last):
            low = min(block * width, columns - width)
            out[:, low : low + width] = result[block - first]
