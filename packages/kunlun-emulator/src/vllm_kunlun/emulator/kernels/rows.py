# SPDX-License-Identifier: Apache-2.0
"""Short loops over rows, each one compiled pass where torch would take several.

A decode step runs them hundreds of times on a few rows: what they save is the start of each pass.
Rows of any float dtype are float32 inside, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch

from vllm_kunlun.emulator.kernels.exponential import exponential
from vllm_kunlun.emulator.kernels.items import ITEMS, as_array, narrowed, widened
from vllm_kunlun.ops.compiled import FAST, compiled, use_threads

__all__ = ["add_rms_norm", "copy_to_slots", "rms_norm", "rotate_", "swiglu"]


@numba.njit(fastmath=FAST)
def _normalise(x, weight, eps, out):  # type: ignore[no-untyped-def]
    width = x.shape[0]
    squares = np.float32(0)
    for column in range(width):
        value = widened(x[column])
        squares += value * value
    scale = np.float32(1) / np.sqrt(squares / np.float32(width) + eps)
    for column in range(width):
        out[column] = narrowed(widened(x[column]) * scale * widened(weight[column]), out)


def _rms_norm(x, weight, eps, out):  # type: ignore[no-untyped-def]
    for row in numba.prange(x.shape[0]):
        _normalise(x[row], weight, eps, out[row])


def _add_rms_norm(x, y, total, weight, eps, out):  # type: ignore[no-untyped-def]
    rows, width = x.shape
    for row in numba.prange(rows):
        wide, sums = np.empty(width, np.float32), total[row]
        for column in range(width):
            wide[column] = widened(x[row, column]) + widened(y[row, column])
        for column in range(width):
            sums[column] = narrowed(wide[column], sums)
        _normalise(wide, weight, eps, out[row])


def _swiglu(x, out):  # type: ignore[no-untyped-def]
    rows, width = out.shape
    for row in numba.prange(rows):
        bits, wide = np.empty(width, np.int32), np.empty(width, np.float32)
        powers = bits.view(np.float32)
        gate, up, result = x[row, :width], x[row, width:], out[row]
        for column in range(width):
            wide[column] = -widened(gate[column])
        exponential(wide, bits)
        for column in range(width):
            power = wide[column] * powers[column]
            value = widened(gate[column]) / (np.float32(1) + power) * widened(up[column])
            result[column] = narrowed(value, result)


def _rotate(heads, cos, sin, step, apart):  # type: ignore[no-untyped-def]
    tokens, count, _ = heads.shape
    for token in numba.prange(tokens):
        for head in range(count):
            row = heads[token, head]
            for pair in range(cos.shape[1]):
                a, b = widened(row[pair * step]), widened(row[pair * step + apart])
                c, s = cos[token, pair], sin[token, pair]
                row[pair * step] = narrowed(a * c - b * s, row)
                row[pair * step + apart] = narrowed(b * c + a * s, row)


def _each_dtype(
    function: Callable[..., None], arguments: Callable[[Any], tuple[Any, ...]]
) -> dict[torch.dtype, Callable[..., None]]:
    return {
        dtype: compiled(numba.void(*arguments(item)))(function) for dtype, item in ITEMS.items()
    }


_eps, _angles = numba.float32, numba.float32[:, ::1]
_rms_norms = _each_dtype(_rms_norm, lambda item: (item[:, ::1], item[::1], _eps, item[:, ::1]))
_add_rms_norms = _each_dtype(
    _add_rms_norm, lambda item: (*[item[:, ::1]] * 3, item[::1], _eps, item[:, ::1])
)
_swiglus = _each_dtype(_swiglu, lambda item: (item[:, ::1], item[:, ::1]))
_rotations = _each_dtype(
    _rotate, lambda item: (item[:, :, ::1], _angles, _angles, numba.int64, numba.int64)
)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor) -> None:
    """``out = x * rsqrt(mean(x^2) + eps) * weight`` over the last dimension.

    Shapes: x and out ``[.., N]``, weight ``[N]``, contiguous, of one float dtype; ``out`` may be
    ``x``.
    """
    use_threads(x.numel())
    _rms_norms[x.dtype](_in_rows(x), _values(weight), eps, _in_rows(out))


def add_rms_norm(
    x: torch.Tensor,
    y: torch.Tensor,
    total: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    out: torch.Tensor,
) -> None:
    """:func:`rms_norm` of ``total = x + y``; ``total`` and ``out`` may be ``x`` or ``y``.

    Shapes: as there; y and total as x.
    """
    use_threads(x.numel())
    values = [_in_rows(each) for each in (x, y, total)]
    _add_rms_norms[x.dtype](*values, _values(weight), eps, _in_rows(out))


def swiglu(x: torch.Tensor, out: torch.Tensor) -> None:
    """``out = silu(x[..., :d]) * x[..., d:]``, into other memory than ``x``.

    Shapes: x ``[.., 2 d]``, out ``[.., d]``, contiguous, of one float dtype.
    """
    use_threads(x.numel())
    _swiglus[x.dtype](_in_rows(x), _in_rows(out))


def _in_rows(x: torch.Tensor) -> np.ndarray:
    return as_array(x if x.dim() == 2 else x.view(-1, x.shape[-1]))


def _values(weight: torch.Tensor) -> np.ndarray:
    return as_array(weight.detach() if weight.requires_grad else weight)


def rotate_(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, is_neox: bool) -> None:
    """In place, ``(a, b) -> (a cos - b sin, b cos + a sin)``.

    Shapes: contiguous heads ``[T, H, D]`` of any float dtype, float32 cos and sin
    ``[T, rot / 2]``. ``b`` is half of ``rot`` after ``a`` (neox) or right after it.
    """
    use_threads(heads.numel())
    step, apart = (1, cos.shape[1]) if is_neox else (2, 1)
    _rotations[heads.dtype](as_array(heads), cos.numpy(), sin.numpy(), step, apart)


def _copy_to_slots(keys, values, key_pages, value_pages, slots):  # type: ignore[no-untyped-def]
    tokens, heads, size = keys.shape
    block_size = key_pages.shape[2]
    for token in numba.prange(tokens):
        slot = slots[token]
        if slot >= 0:
            block, offset = slot // block_size, slot % block_size
            for head in range(heads):
                for element in range(size):
                    key_pages[block, head, offset, element] = keys[token, head, element]
                    value_pages[block, head, offset, element] = values[token, head, element]


_copies = {
    (bits, slot): compiled(
        numba.void(item[:, :, ::1], item[:, :, ::1], item[:, :, :, :], item[:, :, :, :], index[::1])
    )(_copy_to_slots)
    for bits, item in ((torch.int32, numba.int32), (torch.int16, numba.int16))
    for slot, index in ((torch.int32, numba.int32), (torch.int64, numba.int64))
}


def copy_to_slots(
    keys: torch.Tensor,
    values: torch.Tensor,
    key_pages: torch.Tensor,
    value_pages: torch.Tensor,
    slots: torch.Tensor,
) -> None:
    """``pages[s // bs, :, s % bs] = new[t]`` for the slot ``s`` of each token, unless negative.

    Shapes: contiguous keys and values ``[T, KVH, D]``, their pages ``[blocks, KVH, bs, D]`` of any
    strides, all of one 16- or 32-bit dtype; slots int32 or int64 ``[T]``, in range.
    """
    bits = torch.int32 if keys.element_size() == 4 else torch.int16
    use_threads(2 * keys.numel())
    arrays = [each.view(bits).numpy() for each in (keys, values, key_pages, value_pages)]
    _copies[bits, slots.dtype](*arrays, slots.numpy())
