# SPDX-License-Identifier: Apache-2.0
"""Rows quantised to int8, and a few of them times a matrix that is read once where it lies.

oneDNN's product brings the whole matrix into its own order at every call, which takes longer than
so few rows' arithmetic, and knows one matrix alone, not one for each expert. Here the processor's
own instruction adds the products, which the compiler does not find by itself: four of bytes
(vpdpbusd), or two of 16-bit numbers (pmaddwd). The former takes the row as numbers from 0 to 255:
``x . y = (x + 128) . y - 128 (1 . y)``, exact modulo 2^32.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding, ir
from numba import float32, int8, int32, types
from numba.core import cgutils
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.intrinsics import call, load
from vllm_kunlun.emulator.kernels.items import ITEMS, as_array, narrowed, widened
from vllm_kunlun.ops.compiled import FAST, compiled, use_threads

__all__ = [
    "FEW_ROWS",
    "SIGNATURE",
    "finish",
    "is_there",
    "multiply",
    "multiply_few",
    "quantise",
    "scale",
    "scale_of",
    "scaled",
]

_TILE = 64
"""Outputs that a thread takes at a time."""
_SCALED = 1024
"""Outputs whose scales are computed once for all rows."""

Array = np.ndarray[Any, Any]


def _instruction() -> tuple[str, int]:
    """The multiply-add that the loops are compiled for, and how many sums it has; or none."""
    if numba.config.CPU_NAME is not None or numba.config.CPU_FEATURES is not None:
        return "", 0  # compiled for another processor than this one
    features = binding.get_host_cpu_features()
    if features.get("avx512bw"):
        four = features.get("avx512vnni")
        return "llvm.x86.avx512.vpdpbusd.512" if four else "llvm.x86.avx512.pmaddw.d.512", 16
    return ("llvm.x86.avx2.pmadd.wd", 8) if features.get("avx2") else ("", 0)


_NAME, _SUMS = _instruction()
_OF_FOUR = "vpdpbusd" in _NAME
_BYTES = 64 if _OF_FOUR else 32
"""Of each row that are multiplied at a time."""
FEW_ROWS = 8 if _OF_FOUR else 2
"""Up to here quicker than oneDNN's product."""


def is_there() -> bool:
    """Whether this processor has what :func:`multiply` is compiled to."""
    return _SUMS > 0


_word, _long = ir.IntType(32), ir.IntType(64)
_sums = ir.VectorType(_word, max(_SUMS, 1))


def _of_words(value: int) -> Any:
    return ir.Constant(_sums, [value] * _SUMS)


def _add_in_fours(builder: Any, x: Any, y: Any, offset: Any, total: Any, of_y: Any) -> None:
    """Sums of ``(x + 128) y`` and of ``y``."""
    factor = builder.xor(load(builder, x, offset, _sums), _of_words(0x80808080))
    weights = load(builder, y, offset, _sums)
    for sums, by in ((total, factor), (of_y, _of_words(0x01010101))):
        builder.store(call(builder, _NAME, _sums, builder.load(sums), by, weights), sums)


def _add_in_pairs(builder: Any, x: Any, y: Any, offset: Any, total: Any, _: Any) -> None:
    """Sums of ``x y``."""
    bytes_, shorts = (ir.VectorType(ir.IntType(bits), 2 * _SUMS) for bits in (8, 16))
    for piece in range(0, _BYTES, 2 * _SUMS):
        place = builder.add(offset, _long(piece))
        a, b = (builder.sext(load(builder, row, place, bytes_), shorts) for row in (x, y))
        products = call(builder, _NAME, _sums, a, b)
        builder.store(builder.add(builder.load(total), products), total)


@intrinsic
def _dot(context, x, m, weight, n):  # type: ignore[no-untyped-def]
    """``x[m] . weight[n]``, of as many whole pieces of :data:`_BYTES` as a row has."""
    signature = types.int32(x, m, weight, n)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        arrays = [
            context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 2)
        ]
        _, count = cgutils.unpack_tuple(builder, arrays[0].shape, 2)
        x, y = (
            builder.gep(array.data, [builder.mul(index, count)])
            for array, index in zip(arrays, (arguments[1], arguments[3]), strict=True)
        )
        total, of_y = (cgutils.alloca_once_value(builder, _of_words(0)) for _ in range(2))
        add = _add_in_fours if _OF_FOUR else _add_in_pairs
        with cgutils.for_range(builder, builder.sdiv(count, _long(_BYTES))) as loop:
            add(builder, x, y, builder.mul(loop.index, _long(_BYTES)), total, of_y)
        value = builder.load(total)
        if _OF_FOUR:
            value = builder.sub(value, builder.shl(builder.load(of_y), _of_words(7)))
        return call(builder, f"llvm.vector.reduce.add.v{_SUMS}i32", _word, value)

    return signature, generate


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
    first, width = x.shape[1] // _BYTES * _BYTES, x.shape[1]
    for n in range(low, high):
        for m in range(first_row, last_row):
            total = _dot(x, m, weight, n)
            for k in range(first, width):
                total = int32(total + int32(x[m, k]) * int32(weight[n, k]))
            out[m, n] = total
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


@numba.njit(fastmath=False)
def _steps_of(largest):  # type: ignore[no-untyped-def]
    return float32(127) / largest


@numba.njit(fastmath=False)
def _whole(value, step):  # type: ignore[no-untyped-def]
    """Rounded in this order: with fast products the compiler may divide last."""
    return np.rint(value * step)


def _quantise(x, out, largest):  # type: ignore[no-untyped-def]
    rows, width = x.shape
    for m in numba.prange(rows):
        line, wide, top = out[m], np.empty(width, np.float32), int32(0)
        bits = wide.view(np.int32)
        for n in range(width):
            wide[n] = widened(x[m, n])
        for n in range(width):
            # As whole numbers, magnitudes have the same order, and a NaN is above all of them.
            top = max(top, int32(bits[n] & int32(0x7FFFFFFF)))
        largest[m].view(np.int32)[0] = top
        step = _steps_of(largest[m, 0] if top > 0 else float32(1))
        for n in range(width):
            line[n] = int8(int32(_whole(wide[n], step)))


_quantisers = {
    dtype: compiled(numba.void(item[:, ::1], int8[:, ::1], float32[:, ::1]))(_quantise)
    for dtype, item in ITEMS.items()
}


def quantise(x: torch.Tensor, out: Array, largest: Array) -> None:
    """``largest = absmax(row)``; ``out = round(x (127 / largest))``, half to even; 0 of a row of 0.

    A NaN or an infinity in a row is its largest, which makes what is computed with it a NaN.

    Shapes: x ``[M, N]``, contiguous, of any float dtype, out int8 (written) ``[M, N]``, largest
    float32 (written) ``[M, 1]``.
    """
    use_threads(x.numel())
    _quantisers[x.dtype](as_array(x), out, largest)


def _finish(sums, bias, out):  # type: ignore[no-untyped-def]
    rows, width = sums.shape
    for m in numba.prange(rows):
        line = out[m]
        if bias.shape[0] > 0:
            for n in range(width):
                line[n] = narrowed(sums[m, n] + bias[n], line)
        else:
            for n in range(width):
                line[n] = narrowed(sums[m, n], line)


_finishers = {
    dtype: compiled(numba.void(float32[:, ::1], float32[::1], item[:, ::1]))(_finish)
    for dtype, item in ITEMS.items()
}


def finish(sums: Array, bias: Array, out: torch.Tensor) -> None:
    """``out = sums + bias``, rounded once.

    Shapes: sums float32 ``[M, N]``, bias float32 ``[N]`` or empty, out (written) ``[M, N]`` of any
    float dtype; its memory may be that of ``sums``.
    """
    use_threads(out.numel())
    _finishers[out.dtype](sums, bias, as_array(out))
