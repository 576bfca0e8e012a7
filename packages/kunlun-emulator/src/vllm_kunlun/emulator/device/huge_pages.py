# SPDX-License-Identifier: Apache-2.0
"""Memory of an emulated device in huge pages.

A decode step reads every weight once. In pages of 4 KiB the address translation alone takes a good
part of the step, most of all inside a virtual machine; in pages of 2 MiB it does not show. Linux
gives them where it is asked to; where it refuses, memory stays as it is.
"""

from __future__ import annotations

import ctypes

__all__ = ["advise", "collapse"]

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


def _madvise(address: int, size_bytes: int, advice: int) -> bool:
    """For the whole huge pages inside the range, so that nothing beside it is touched."""
    start = -(-address // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    stop = (address + size_bytes) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    if stop <= start:
        return False
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return bool(madvise(start, stop - start, advice) == 0)
