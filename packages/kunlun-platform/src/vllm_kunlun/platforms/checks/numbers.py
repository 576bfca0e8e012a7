# SPDX-License-Identifier: Apache-2.0
"""Numbers of a request: each finite, within its bounds, and small enough to be passed on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["BOUNDS", "check", "check_integer"]

BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 1000.0),
    "repetition_penalty": (1e-3, 1e3),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "logit_bias": (-1e30, 1e30),
}
"""Field -> lowest and highest value with which logits in float32 stay finite."""

_INT64 = 2**63


def check(params: Any) -> None:
    """Refuse numbers that a sampler cannot compute with.

    Args:
        params: vLLM's ``SamplingParams`` or ``PoolingParams``.

    Raises:
        UnsupportedError: naming the field, the value and what it may be.
    """
    for field in params.__struct_fields__:
        for number in _numbers(getattr(params, field)):
            if isinstance(number, int):
                check_integer(field, number)
            _check_bounds(field, number)


def check_integer(field: str, number: int) -> None:
    """Refuse an integer that does not fit in 64 bits, in which requests travel to the engine.

    Raises:
        UnsupportedError: naming ``field``.
    """
    if not -_INT64 <= number < _INT64:
        raise UnsupportedError(f"{field}={number}: expected an integer of at most 64 bits.")


def _check_bounds(field: str, number: float) -> None:
    if not math.isfinite(number):
        raise UnsupportedError(f"{field}={number}: expected a finite number.")
    lowest, highest = BOUNDS.get(field, (-math.inf, math.inf))
    if not lowest <= number <= highest:
        raise UnsupportedError(
            f"{field}={number}: expected a number from {lowest:g} to {highest:g}."
        )


def _numbers(value: Any) -> Iterator[int | float]:
    """Every number in ``value``, also in what it holds, without recursion."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, bool):
            continue
        if isinstance(each, (int, float)):
            yield each
        elif isinstance(each, Mapping):
            left += each.keys()
            left += each.values()
        elif isinstance(each, (list, tuple, set, frozenset)):
            left += each
        elif dataclasses.is_dataclass(each):
            left += vars(each).values()
