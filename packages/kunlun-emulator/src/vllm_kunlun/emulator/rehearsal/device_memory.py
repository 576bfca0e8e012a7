# SPDX-License-Identifier: Apache-2.0
"""What the rehearsed device has of memory, and how much of it is in use, in bytes.

The device's memory is the host's: a storage that counts as the device's is tracked by where it
begins, until it is gone. What a caching allocator would keep beyond that is not modelled, so that
what is reserved is what is allocated.
"""

from __future__ import annotations

import threading
from collections import deque

import torch

from vllm_kunlun.platforms import memory

__all__ = [
    "allocated",
    "free",
    "hold",
    "leave_out",
    "peak",
    "release",
    "reserved",
    "reset_peak",
    "stats",
    "total",
    "track",
]

_lock = threading.Lock()
_addresses: set[int] = set()
_gone: deque[_Counted] = deque()
_now = _most = 0


class _Counted:
    """Lies on what is counted, and goes with it."""

    __slots__ = ("address", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size

    def __del__(self) -> None:
        # A storage may go at any line of any thread, also while the lock is held: count later.
        _gone.append(self)


def track(storage: torch.UntypedStorage) -> None:
    """Count ``storage`` as the device's from now on, for as long as it lives. Re-entrant.

    A storage that begins where a counted one does is a view that owns nothing: it is not counted.
    Neither is one without memory of the host (meta, or of no bytes).
    """
    size = storage.nbytes()
    if not size or storage.device.type != "cpu" or hasattr(storage, "counted"):
        return
    if counted := hold(storage.data_ptr(), size):
        storage.counted = counted  # type: ignore[attr-defined]


def leave_out(storage: torch.UntypedStorage) -> None:
    """Never count ``storage``: a view that owns nothing, though it begins where none begins."""
    storage.counted = None  # type: ignore[attr-defined]


def hold(address: int, size: int) -> object | None:
    """Count ``size`` bytes from ``address`` on as the device's until what is returned is gone.

    None if what begins there is counted already.
    """
    global _now, _most
    with _lock:
        _forget()
        if address in _addresses:
            return None
        _addresses.add(address)
        _now += size
        _most = max(_most, _now)
    return _Counted(address, size)


def release(storage: torch.UntypedStorage) -> None:
    """Count ``storage`` no longer: it was found to be the host's. Re-entrant."""
    if hasattr(storage, "counted"):
        del storage.counted


def _forget() -> None:
    """Take off what is gone. The lock is held."""
    global _now
    while _gone:
        counted = _gone.popleft()
        _addresses.discard(counted.address)
        _now -= counted.size


def allocated() -> int:
    """Bytes in use now."""
    with _lock:
        _forget()
        return _now


def reserved() -> int:
    """Bytes that the allocator has from the device: those in use."""
    return allocated()


def peak() -> int:
    """The most that :func:`allocated` was since the process began, or since :func:`reset_peak`."""
    return _most


def reset_peak() -> None:
    """Let :func:`peak` begin again from what is in use now."""
    global _most
    with _lock:
        _forget()
        _most = _now


def total() -> int:
    """Memory of the device: ``VLLM_KUNLUN_EMULATED_MEMORY_GIB``, else half of the host's, at most
    a card's.

    Raises:
        UnsupportedError: that variable is not a number of GiB.
    """
    return memory.total_bytes(0, on_card=False)


def free() -> int:
    """Bytes that are left. Other processes have devices of their own: theirs are not subtracted."""
    return max(0, total() - allocated())


def stats() -> dict[str, int]:
    """The figures of ``torch.cuda.memory_stats`` that vLLM and torch ask for."""
    return {
        f"{kind}_bytes.all.{when}": value
        for kind in ("allocated", "reserved")
        for when, value in (("current", allocated()), ("peak", peak()))
    }
