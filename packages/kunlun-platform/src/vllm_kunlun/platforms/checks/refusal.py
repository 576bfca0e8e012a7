# SPDX-License-Identifier: Apache-2.0
"""A platform that cannot be constructed: the way to make vLLM show why we refuse."""

from __future__ import annotations

from typing import NoReturn

from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["RefusedPlatform", "refuse"]

_reason: KunlunError | None = None


class RefusedPlatform:
    """Raises the recorded :class:`KunlunError` when vLLM instantiates its platform."""

    def __new__(cls) -> NoReturn:  # type: ignore[misc]
        raise _reason or KunlunError("vllm-kunlun refused to start but gave no reason.")


def refuse(error: KunlunError) -> str:
    """Record ``error`` and return the class path under which vLLM will meet it."""
    global _reason
    _reason = error
    return f"{RefusedPlatform.__module__}.{RefusedPlatform.__qualname__}"
