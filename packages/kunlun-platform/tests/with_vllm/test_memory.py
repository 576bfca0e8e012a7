# SPDX-License-Identifier: Apache-2.0
"""How much memory a device has: a card's own, a share of the host's, or what the user set."""

from __future__ import annotations

import os
import types
from typing import Any

import pytest
import torch

from vllm_kunlun.platforms import memory
from vllm_kunlun.platforms.errors import UnsupportedError

GIB = 2**30


@pytest.mark.parametrize("gib", ["0.5", "3", "200"])
def test_memory_that_the_user_set(gib: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", gib)
    assert memory.total_bytes(0, on_card=False) == int(float(gib) * GIB)


@pytest.mark.parametrize("gib", ["0", "-1", "lots", "inf"])
def test_memory_that_makes_no_sense(gib: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", gib)
    with pytest.raises(UnsupportedError, match="VLLM_KUNLUN_EMULATED_MEMORY_GIB"):
        memory.total_bytes(0, on_card=False)


def test_memory_by_default_is_a_share_of_the_host_and_never_above_a_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", raising=False)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.total_bytes(0, on_card=False) <= min(physical // 2, 96 * GIB)
    monkeypatch.setattr(memory, "host_limit_bytes", lambda: 1024 * GIB)
    assert memory.total_bytes(0, on_card=False) == 96 * GIB
    monkeypatch.setattr(memory, "host_limit_bytes", lambda: 10 * GIB)
    assert memory.total_bytes(0, on_card=False) == 5 * GIB


def test_a_control_groups_limit_counts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited, limited = tmp_path / "v2", tmp_path / "v1"
    unlimited.write_text("max\n")
    limited.write_text("1048576\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(unlimited), str(tmp_path / "absent")))
    free = memory.host_limit_bytes()
    assert free == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(unlimited), str(limited)))
    assert memory.host_limit_bytes() == 1048576


class _CardTorch:
    """``torch.cuda`` of a card, which asking for properties would initialise."""

    def __init__(self, *, initialised: bool) -> None:
        self.initialised = initialised

    def is_initialized(self) -> bool:
        return self.initialised

    def get_device_properties(self, device_id: int) -> Any:
        assert self.initialised, "the device would be initialised"
        return types.SimpleNamespace(total_memory=(64 + device_id) * GIB)


def test_memory_of_a_card_is_asked_for_only_where_the_card_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "cuda", _CardTorch(initialised=False))
    assert memory.total_bytes(0, on_card=True) == 96 * GIB
    monkeypatch.setattr(torch, "cuda", _CardTorch(initialised=True))
    assert memory.total_bytes(2, on_card=True) == 66 * GIB


def test_memory_in_use_moves_with_allocations() -> None:
    size = 256 * 2**20
    before = memory.used_bytes(None, on_card=False)
    held = torch.ones(size // 4)
    during = memory.used_bytes(None, on_card=False)
    assert 0.8 * size < during - before < 1.5 * size
    del held
    assert memory.used_bytes(None, on_card=False) < during - 0.8 * size


def test_what_torch_only_keeps_for_later_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    in_use = iter([1 * GIB, 9 * GIB])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (96 * GIB - next(in_use), 96 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3 * GIB)
    kept = iter([3 * GIB, 2 * GIB])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: next(kept))
    assert memory.held_bytes("cuda:0") == 1 * GIB
    assert memory.held_bytes("cuda:0") == 8 * GIB


def test_a_card_says_itself_what_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 20)
    assert memory.used_bytes("cuda:0", on_card=True) == 20
