# SPDX-License-Identifier: Apache-2.0
"""How much memory a device has. A card answers itself; an emulated device is given a share."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from vllm_kunlun.platforms import envs

__all__ = ["CARD_BYTES", "held_bytes", "host_limit_bytes", "total_bytes", "used_bytes"]

CARD_BYTES = 98_304 * 2**20
"""A P800 carries 98,304 MiB."""

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def host_limit_bytes() -> int:
    """Memory that this process may use: the machine's, or its control group's if less."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUP_LIMITS:
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limit = min(limit, int(text))
    return limit


def total_bytes(device_id: int, *, on_card: bool) -> int:
    """Memory of one device, in bytes.

    A card is asked only where torch uses it already. The API process, which wants to know in order
    to choose defaults, must not initialise a device: it could not fork any more, and would hold
    memory of card 0. It is told what a P800 has.

    An emulated device has ``VLLM_KUNLUN_EMULATED_MEMORY_GIB`` if set, else half of what the
    process may use, and never more than a card.

    Raises:
        UnsupportedError: that variable is not a number of GiB.
    """
    if on_card:
        if not torch.cuda.is_initialized():
            return CARD_BYTES
        return int(torch.cuda.get_device_properties(device_id).total_memory)
    asked_gib = envs.VLLM_KUNLUN_EMULATED_MEMORY_GIB
    if asked_gib is not None:
        return int(asked_gib * 2**30)
    return min(CARD_BYTES, host_limit_bytes() // 2)


def used_bytes(device: torch.types.Device | None, *, on_card: bool) -> float:
    """Bytes allocated on ``device`` now; for an emulated one, this process's resident memory."""
    if on_card:
        return float(torch.cuda.memory_allocated(device))
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(resident_pages * os.sysconf("SC_PAGE_SIZE"))


def held_bytes(device: torch.types.Device | None) -> int:
    """Bytes of a card that are in use by anybody, without what torch only keeps for later.

    Copies that the vendor's runtime makes behind torch's back are in it.
    """
    free, total = torch.cuda.mem_get_info(device)
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(total - free - idle)
