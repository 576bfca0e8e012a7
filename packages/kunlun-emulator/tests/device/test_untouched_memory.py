# SPDX-License-Identifier: Apache-2.0
"""A cache's zeros cost memory as they are written."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from vllm_kunlun.emulator.device import untouched_memory

MIB = 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_only_what_is_written_becomes_resident() -> None:
    before = resident_bytes()
    with untouched_memory.zeros():
        cache = torch.zeros(512 * MIB, dtype=torch.int8, device=torch.device("cpu"))
    assert resident_bytes() - before < 16 * MIB
    assert (cache.shape, cache.dtype) == ((512 * MIB,), torch.int8)
    assert not cache[: 8 * MIB].any()
    cache[-32 * MIB :] = 1
    assert 24 * MIB < resident_bytes() - before < 64 * MIB
    assert int(cache[-32 * MIB :].sum(dtype=torch.int64)) == 32 * MIB


def test_other_zeros_are_torchs() -> None:
    with untouched_memory.zeros():
        assert torch.zeros(2, 3).shape == (2, 3)
        assert torch.zeros(4, dtype=torch.int32).dtype == torch.int32
        assert torch.zeros((2, 3), dtype=torch.int8).shape == (2, 3)


def test_memory_that_was_taken_is_zero() -> None:
    taken = untouched_memory.take(MIB)
    assert (taken.shape, taken.dtype) == ((MIB,), torch.int8)
    assert not taken.any()
