# SPDX-License-Identifier: Apache-2.0
"""Sums of a group of inputs times a block of a packed weight, as dot products of bytes.

A nibble is a byte from 0 to 15, and the processor adds four products of such a byte with a signed
one in one instruction (vpdpbusd; two where it has pmaddubsw alone).
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.intrinsics import ask_for, call, load
from vllm_kunlun.ops.contract.limits import FAST_LAYOUT_COLUMNS

__all__ = [
    "BLOCK_BYTES",
    "PIECES",
    "ROWS",
    "RUN",
    "STEP",
    "is_there",
    "sums_along_inputs",
    "sums_along_outputs",
]

PIECES = 3
"""Rows of int8 that a row of numbers is the sum of, see :func:`.int4_row.split`."""
STEP = 254.0
"""How much smaller the next piece's unit is."""
RUN = FAST_LAYOUT_COLUMNS // 2
"""Columns in a row of the fast layout that are the same nibble of bytes side by side."""
_AHEAD_BYTES = 256
"""How far beyond what is read memory is asked for along a row."""


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
ROWS = 32 if _SUMS == 16 else 8
"""Up to so many are quicker one after the other than as a product of an unpacked weight."""
_PASSES = [[0, 1]] if _SUMS == 16 else [[0], [1]]
"""Planes of AWQ's bytes whose sums fill the registers together."""

_word, _long, _byte = ir.IntType(32), ir.IntType(64), ir.IntType(8)
_words = ir.VectorType(_word, max(_SUMS, 1))
_floats = ir.VectorType(ir.FloatType(), max(_SUMS, 1))
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
    pairs = call(builder, "llvm.x86.avx2.pmadd.wd", _words, sums, _all(_pairs, 1))
    return builder.add(total, pairs)


def _place(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(builder.bitcast(data, _byte.as_pointer()), [offset])


def _row(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Where row ``index`` of an array of two dimensions lies."""
    strides = context.make_array(kind)(context, builder, array).strides
    stride, _ = cgutils.unpack_tuple(builder, strides, 2)
    return _place(context, builder, kind, array, builder.mul(index, stride))


def _all(kind: Any, value: Any) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call(builder, f"llvm.fmuladd.v{_SUMS}f32", _floats, a, b, c)


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_word, len(order)), order))


def _splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_words, ir.Undefined), value, _word(0))
    return _shuffle(builder, first, first, [0] * _SUMS)


def _nibbles(builder: Any, value: Any, *, high: bool) -> Any:
    if high:
        value = builder.lshr(value, _all(_words, 4))
    return builder.and_(value, _all(_words, 0x0F0F0F0F))


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
        return _shuffle(builder, a, b, order)

    first = [mix(rows[0], rows[1], 1, half) for half in (0, 1)]
    second = [mix(rows[2], rows[3], 1, half) for half in (0, 1)]
    mixed = [mix(first[v // 2], second[v // 2], 2, v % 2) for v in range(4)]
    return [builder.bitcast(each, _words) for each in mixed]


def _in_order(builder: Any, totals: list[Any]) -> list[Any]:
    """The sums of :func:`_quads`' four vectors, column after column."""
    ordered = []
    for lane in range(0, _SUMS, 4):
        quads = [start + lane + each for start in (0, _SUMS) for each in range(4)]
        first = _shuffle(builder, totals[0], totals[1], quads)
        second = _shuffle(builder, totals[2], totals[3], quads)
        if _SUMS == 8:
            ordered += [first, second]
        else:
            ordered.append(_shuffle(builder, first, second, list(range(16))))
    return ordered


class _Group:
    """``sum of x (q - z)`` of a group of inputs, while it is added up in four vectors a kind.

    Args:
        x: the type of the row's pieces, the pieces, and the byte where the group's lie.
        kinds: planes of nibbles that are added up side by side.
    """

    def __init__(self, context: Any, builder: Any, x: tuple[Any, Any, Any], kinds: int) -> None:
        self._builder = builder
        array = context.make_array(x[0])(context, builder, x[1])
        self._row = builder.gep(builder.bitcast(array.data, _byte.as_pointer()), [x[2]])
        self._apart, self._beside, _ = cgutils.unpack_tuple(builder, array.strides, 3)
        zero = _all(_words, 0)
        self._totals = [
            [[cgutils.alloca_once_value(builder, zero) for _ in range(4)] for _ in range(PIECES)]
            for _ in range(kinds)
        ]

    def factors(self, index: Any, odd: int = 0) -> list[Any]:
        """Of each piece, the four bytes of word ``index`` in every lane."""
        builder = self._builder
        offset = builder.add(builder.mul(index, _long(4)), builder.mul(self._beside, _long(odd)))
        offsets = [
            builder.add(offset, builder.mul(self._apart, _long(piece))) for piece in range(PIECES)
        ]
        return [_splat(builder, load(builder, self._row, each, _word)) for each in offsets]

    def add(self, kind: int, v: int, nibbles: Any, factors: list[Any]) -> None:
        builder = self._builder
        for piece, factor in zip(self._totals[kind], factors, strict=True):
            builder.store(_add_dots(builder, builder.load(piece[v]), nibbles, factor), piece[v])

    def totals(self, kind: int, zeros: list[Any], sums: Any) -> list[Any]:
        """``u (a + b / 254 + c / 254^2)`` of the pieces' sums, float32.

        Whole numbers below 2^24 are exact. ``zeros`` are words, ``sums`` points to ``u`` and the
        pieces' own sums.
        """
        builder = self._builder
        unit, *of_x = (_splat(builder, load(builder, sums, _long(4 * i), _word)) for i in range(4))
        unit, *of_x = (builder.bitcast(each, _floats) for each in (unit, *of_x))
        results = []
        for v, zero in enumerate(zeros):
            zero, total = builder.fneg(builder.uitofp(zero, _floats)), _all(_floats, 0.0)
            for piece in reversed(range(PIECES)):
                dots = builder.sitofp(builder.load(self._totals[kind][piece][v]), _floats)
                dots = _multiply_add(builder, zero, of_x[piece], dots)
                total = _multiply_add(builder, total, _all(_floats, 1 / STEP), dots)
            results.append(builder.fmul(total, unit))
        return results


def _store(builder: Any, target: Any, column: int, value: Any) -> None:
    place = builder.gep(target, [_long(4 * column)])
    builder.store(value, builder.bitcast(place, _floats.as_pointer()), align=4)


@intrinsic
def sums_along_inputs(context, words, start, stride, count, x, at, sums, g, zeros, low, out):  # type: ignore[no-untyped-def]
    """``out[n] = sum of x (q - z - 1)`` of group ``g`` and the columns from ``low`` on.

    ``count`` rows of words, ``stride`` bytes apart from byte ``start`` on, are the group's; its
    pieces lie at ``at``. Zeros are nibbles in the fast layout.

    Shapes: sums as :func:`.int4_row.split` has them, zeros uint8 ``[G, N / 2]``, out float32
    ``[BLOCK_BYTES]`` (written).
    """
    signature = types.void(words, start, stride, count, x, at, sums, g, zeros, low, out)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, start, stride, count, row, at, _, g, _, low, _ = arguments
        source = _place(context, builder, signature.args[0], arguments[0], start)
        group = _Group(context, builder, (signature.args[4], row, at), 1)
        with cgutils.for_range(builder, count) as loop:
            line = builder.gep(source, [builder.mul(loop.index, stride)])
            even, odd = (group.factors(loop.index, odd) for odd in (0, 1))
            for v in range(4):
                place = builder.gep(line, [_long(v * 4 * _SUMS)])
                ask_for(builder, builder.gep(place, [_long(_AHEAD_BYTES)]), near=True)
                value = load(builder, place, _long(0), _words)
                group.add(0, v, _nibbles(builder, value, high=False), even)
                group.add(0, v, _nibbles(builder, value, high=True), odd)
        codes, of_x = (_row(context, builder, signature.args[i], arguments[i], g) for i in (8, 6))
        words = []
        for v in range(4):
            column = builder.add(low, _long(v * _SUMS))
            run = builder.udiv(column, _long(RUN))
            inside = builder.urem(column, _long(RUN))
            byte = builder.add(builder.mul(builder.lshr(run, _long(1)), _long(RUN)), inside)
            some = load(builder, codes, byte, ir.VectorType(_byte, _SUMS))
            is_low = builder.trunc(run, ir.IntType(1))
            shift = builder.select(is_low, _word(0), _word(4))
            nibble = builder.lshr(builder.zext(some, _words), _splat(builder, shift))
            nibble = builder.and_(nibble, _all(_words, 15))
            words.append(builder.add(nibble, _all(_words, 1)))
        target = _place(context, builder, signature.args[10], arguments[10], _long(0))
        for v, value in enumerate(group.totals(0, words, of_x)):
            _store(builder, target, v * _SUMS, value)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def sums_along_outputs(  # type: ignore[no-untyped-def]
    context, codes, start, stride, count, x, at, sums, g, zeros, low, ahead, out
):
    """``sum of x (q - z)`` of group ``g``, for the nibbles of bytes ``low`` and following.

    Four times ``count`` rows are the group's; else as :func:`sums_along_inputs`. The results are
    in the fast layout's order: of 32 bytes first the high nibbles', then the low ones'.

    Memory that is multiplied later is asked for meanwhile: ``ahead`` is the byte where its first
    row begins, how many blocks of a row it is, and how many blocks were asked for before.

    Shapes: out float32 ``[2 BLOCK_BYTES]`` (written).
    """
    signature = types.void(codes, start, stride, count, x, at, sums, g, zeros, low, ahead, out)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, start, stride, count, row, at, _, g, _, low, ahead, _ = arguments
        source = _place(context, builder, signature.args[0], arguments[0], start)
        target = _place(context, builder, signature.args[11], arguments[11], _long(0))
        later, across, asked = cgutils.unpack_tuple(builder, ahead, 3)
        later = _place(context, builder, signature.args[0], arguments[0], later)
        down = builder.mul(builder.udiv(asked, across), stride)
        asked_row = cgutils.alloca_once_value(builder, builder.gep(later, [down]))
        asked_block = cgutils.alloca_once_value(builder, builder.urem(asked, across))

        def ask() -> None:
            """For the next block; after the last one of a row comes the next row."""
            block, line = builder.load(asked_block), builder.load(asked_row)
            ask_for(builder, builder.gep(line, [builder.mul(block, _long(4 * _SUMS))]), near=False)
            block = builder.add(block, _long(1))
            ends = builder.icmp_unsigned("==", block, across)
            builder.store(builder.select(ends, _long(0), block), asked_block)
            builder.store(builder.select(ends, builder.gep(line, [stride]), line), asked_row)

        zero_codes, of_x = (
            _row(context, builder, signature.args[i], arguments[i], g) for i in (8, 6)
        )
        zero_bytes = _quads(builder, [load(builder, zero_codes, low, _bytes)] * 4)
        for planes in _PASSES:
            group = _Group(context, builder, (signature.args[4], row, at), len(planes))
            with cgutils.for_range(builder, count) as loop:
                first = builder.mul(loop.index, builder.mul(stride, _long(4)))
                line, rows = builder.gep(source, [first]), []
                for _ in range(4):
                    if 0 in planes:
                        ask()
                    rows.append(load(builder, line, _long(0), _bytes))
                    line = builder.gep(line, [stride])
                factors = group.factors(loop.index)
                for v, value in enumerate(_quads(builder, rows)):
                    for kind, plane in enumerate(planes):
                        nibbles = _nibbles(builder, value, high=plane == 0)
                        group.add(kind, v, nibbles, factors)
            for kind, plane in enumerate(planes):
                zeros = [
                    builder.and_(_nibbles(builder, each, high=plane == 0), _all(_words, 15))
                    for each in zero_bytes
                ]
                for i, value in enumerate(_in_order(builder, group.totals(kind, zeros, of_x))):
                    column = i * _SUMS
                    column += column // RUN * RUN + plane * RUN
                    _store(builder, target, column, value)
        return context.get_dummy_value()

    return signature, generate
