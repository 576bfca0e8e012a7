# SPDX-License-Identifier: Apache-2.0
"""Rearranging the nibbles of words, as formulas that hold for any kind of integer.

:mod:`vllm_kunlun.quantization.layouts.repack` evaluates them on integer tensors, its compiled loops
on unsigned words. Every right shift is masked, so that a sign bit never spreads.

Number the nibbles of a word in binary. The layouts of AWQ and of the card differ in the order of
these index bits (and in a swap of the two nibbles of a byte), and two index bits change places in
one step: the fields under a mask change places with those a shift above.
"""

from __future__ import annotations

from typing import Any

try:
    from numba.extending import register_jitable
except ImportError:  # the loops over host memory need numba, tensors do not

    def register_jitable(function: Any) -> Any:
        return function


__all__ = [
    "awq_to_fast",
    "awq_to_normal",
    "exchange",
    "fast_to_awq",
    "fast_to_sequential",
    "normal_to_awq",
    "sequential_to_fast",
    "swap_nibbles",
]

Integer = Any
"""A tensor, or an unsigned integer of a compiled loop."""


@register_jitable
def _swap_21(w: Integer) -> Integer:
    """Index bits 2 and 1 change places."""
    t = (w ^ (w >> 8)) & 0x0000FF00
    return w ^ t ^ (t << 8)


@register_jitable
def _swap_10(w: Integer) -> Integer:
    """Index bits 1 and 0 change places."""
    t = (w ^ (w >> 4)) & 0x00F000F0
    return w ^ t ^ (t << 4)


@register_jitable
def exchange(a: Integer, b: Integer, shift: int, mask: int) -> tuple[Integer, Integer]:
    """The fields of ``a`` under ``mask << shift`` change places with those of ``b`` under ``mask``.

    Between 8 words at distances of 4, 2 and 1 this transposes their nibbles.
    """
    t = ((a >> shift) ^ b) & mask
    return a ^ (t << shift), b ^ t


@register_jitable
def swap_nibbles(w: Integer) -> Integer:
    """The two nibbles of each byte change places: sequential to normal and back."""
    return ((w >> 4) & 0x0F0F0F0F) | ((w & 0x0F0F0F0F) << 4)


@register_jitable
def awq_to_normal(w: Integer) -> Integer:
    """Columns 0 2 4 6 1 3 5 7 to 1 0 3 2 5 4 7 6: index bits 2 1 0 to 1 0 2, and a swap."""
    return swap_nibbles(_swap_10(_swap_21(w)))


@register_jitable
def normal_to_awq(w: Integer) -> Integer:
    """The inverse of :func:`awq_to_normal`."""
    return _swap_21(_swap_10(swap_nibbles(w)))


# The fast layout interleaves a word of the first 32 columns (high) with the word 32 columns on
# (low), and the two become neighbours. Index bit 3 says which of the two words it is.


@register_jitable
def awq_to_fast(high: Integer, low: Integer) -> tuple[Integer, Integer]:
    """Index bits 3 2 1 0 to 1 0 2 3."""
    low, high = exchange(low, high, 4, 0x0F0F0F0F)
    low, high = exchange(low, high, 8, 0x00FF00FF)
    return _swap_21(low), _swap_21(high)


@register_jitable
def fast_to_awq(first: Integer, second: Integer) -> tuple[Integer, Integer]:
    """The inverse of :func:`awq_to_fast`."""
    low, high = exchange(_swap_21(first), _swap_21(second), 8, 0x00FF00FF)
    low, high = exchange(low, high, 4, 0x0F0F0F0F)
    return high, low


@register_jitable
def sequential_to_fast(high: Integer, low: Integer) -> tuple[Integer, Integer]:
    """Index bits 3 2 1 0 to 2 1 0 3."""
    low, high = exchange(low, high, 16, 0x0000FFFF)
    return _swap_10(_swap_21(low)), _swap_10(_swap_21(high))


@register_jitable
def fast_to_sequential(first: Integer, second: Integer) -> tuple[Integer, Integer]:
    """The inverse of :func:`sequential_to_fast`."""
    low, high = _swap_21(_swap_10(first)), _swap_21(_swap_10(second))
    low, high = exchange(low, high, 16, 0x0000FFFF)
    return high, low
