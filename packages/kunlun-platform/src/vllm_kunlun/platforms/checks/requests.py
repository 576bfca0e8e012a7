# SPDX-License-Identifier: Apache-2.0
"""Requests that are refused before they reach the scheduler."""

from __future__ import annotations

from typing import Any

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.checks import numbers
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["validate"]


def validate(params: Any) -> None:
    """Refuse sampling parameters that no server could honour.

    Args:
        params: vLLM's ``SamplingParams`` or ``PoolingParams``.

    Raises:
        UnsupportedError: a number is not finite or out of its bounds (:mod:`numbers`), or ``n`` is
            above ``VLLM_KUNLUN_MAX_N``. Each of the ``n`` samples becomes a request of its own, so
            that one absurd ``n`` blocks the front end for hours.
    """
    numbers.check(params)
    n = getattr(params, "n", 1)
    limit = envs.VLLM_KUNLUN_MAX_N
    if n > limit:
        raise UnsupportedError(
            f"n={n} is more than this server allows ({limit}). Ask for at most {limit} samples "
            "per request, or start the server with a larger VLLM_KUNLUN_MAX_N."
        )
