# SPDX-License-Identifier: Apache-2.0
"""Huge pages: the values stay, and Linux itself counts the pages."""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path

import pytest

from vllm_kunlun.emulator.device import huge_pages

SIZE = 8 * huge_pages.HUGE_PAGE_BYTES
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def huge_bytes_of(address: int) -> int:
    """``AnonHugePages`` of the mapping that holds ``address``, by /proc/self/smaps."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(match[1], 16) <= address < int(match[2], 16)
        elif inside and line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    raise LookupError(hex(address))


def test_collapse_keeps_the_bytes() -> None:
    with mmap.mmap(-1, SIZE, PRIVATE) as memory:
        memory.write(bytes(range(256)) * (SIZE // 256))
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        done = huge_pages.collapse(address, SIZE)
        assert memory[:] == bytes(range(256)) * (SIZE // 256)
        if not done:
            pytest.skip("this Linux gives no huge pages on request")
        assert huge_bytes_of(address) >= SIZE - 2 * huge_pages.HUGE_PAGE_BYTES


def test_small_pieces_are_gathered_together() -> None:
    """Pieces of a third of a page each; the last of the pages is filled by a tenth only."""
    piece = huge_pages.HUGE_PAGE_BYTES // 3
    with mmap.mmap(-1, SIZE, PRIVATE) as memory:
        memory.write(bytes(range(256)) * (SIZE // 256))
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        first = -(-address // huge_pages.HUGE_PAGE_BYTES) * huge_pages.HUGE_PAGE_BYTES
        pieces = [(first + number * piece, piece) for number in range(12)]
        last = first + 5 * huge_pages.HUGE_PAGE_BYTES
        gathered = huge_pages.gather([*reversed(pieces), (last, piece // 4)])
        assert memory[:] == bytes(range(256)) * (SIZE // 256)
        if not huge_pages.collapse(first, huge_pages.HUGE_PAGE_BYTES):
            pytest.skip("this Linux gives no huge pages on request")
        assert gathered == huge_bytes_of(first) == 4 * huge_pages.HUGE_PAGE_BYTES


def test_a_range_without_a_whole_page_is_left_alone() -> None:
    with mmap.mmap(-1, huge_pages.HUGE_PAGE_BYTES, PRIVATE) as memory:
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert not huge_pages.advise(address, 4096)
