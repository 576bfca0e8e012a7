# SPDX-License-Identifier: Apache-2.0
"""What the rehearsal does for itself is no work of the device."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["is_quiet", "quiet"]

_here = threading.local()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Calls of torch in this thread are neither checked, counted nor captured."""
    before = is_quiet()
    _here.on = True
    try:
        yield
    finally:
        _here.on = before


def is_quiet() -> bool:
    """Whether this thread is inside :func:`quiet`."""
    return getattr(_here, "on", False)
