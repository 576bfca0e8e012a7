# SPDX-License-Identifier: Apache-2.0
"""Memory of an emulated device in huge pages.

A decode step reads every weight once. In pages of 4 KiB the address translation alone takes a good
part of the step, most of all inside a virtual machine; in pages of 2 MiB it does not show. Linux
gives them where it is asked to; where it refuses, memory stays as it is.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable
from functools import cache

__all__ = ["advise", "collapse", "gather"]

HUGE_PAGE_BYTES = 2 << 20
# <linux/mman.h>
_MADV_HUGEPAGE = 14
_MADV_COLLAPSE = 25  # Linux 6.1


def advise(address: int, size_bytes: int) -> bool:
    """Memory not yet touched: back it by huge pages when it is. True if Linux agreed."""
    return _madvise(address, size_bytes, _MADV_HUGEPAGE)


def collapse(address: int, size_bytes: int) -> bool:
    """Memory already filled: gather it into huge pages now. True if Linux did."""
    return advise(address, size_bytes) and _madvise(address, size_bytes, _MADV_COLLAPSE)


def gather(ranges: Iterable[tuple[int, int]]) -> int:
    """Filled memory in many pieces: into huge pages, of which a piece need not fill one.

    A huge page is asked for where the pieces fill half of it or more. What else lies in it goes
    with them; where it holds something that cannot be moved, it stays as it is.

    Args:
        ranges: address and size in bytes of each piece, in any order.

    Returns:
        How many bytes lie in huge pages now.
    """
    filled: Counter[int] = Counter()
    for address, size_bytes in ranges:
        stop = address + size_bytes
        for page in range(address // HUGE_PAGE_BYTES, -(-stop // HUGE_PAGE_BYTES)):
            start = page * HUGE_PAGE_BYTES
            filled[page] += min(stop, start + HUGE_PAGE_BYTES) - max(address, start)
    pages = sorted(page for page, count in filled.items() if 2 * count >= HUGE_PAGE_BYTES)
    # Neighbours have to be of one mind before a page that both lie in can be gathered.
    for page in pages:
        advise(page * HUGE_PAGE_BYTES, HUGE_PAGE_BYTES)
    return sum(
        HUGE_PAGE_BYTES for page in pages if collapse(page * HUGE_PAGE_BYTES, HUGE_PAGE_BYTES)
    )


def _madvise(address: int, size_bytes: int, advice: int) -> bool:
    """For the whole huge pages inside the range, so that nothing beside it is touched."""
    start = -(-address // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    stop = (address + size_bytes) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    return stop > start and _library().madvise(start, stop - start, advice) == 0


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return library
