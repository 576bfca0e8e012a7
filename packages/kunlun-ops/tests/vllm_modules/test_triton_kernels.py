# SPDX-License-Identifier: Apache-2.0
"""Slots of tokens by a loop over requests, and where they are put."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from vllm_kunlun.ops.vllm_modules import triton_kernels
from vllm_kunlun.platforms.errors import UnsupportedError

REGISTRY = "vllm.triton_utils.dispatcher"


def slots(
    lengths: list[int], starts: list[int], table: torch.Tensor, block_size: int, tokens: int
) -> torch.Tensor:
    """One slot after another."""
    found = [
        int(table[request, position // block_size]) * block_size + position % block_size
        for request, (count, start) in enumerate(zip(lengths, starts, strict=True))
        for position in range(start, start + count)
    ]
    return torch.tensor(found + [-1] * (tokens - len(found)))


@pytest.mark.parametrize("seed", range(20))
def test_as_a_loop_over_requests(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    requests, block_size = int(torch.randint(1, 6, (), generator=generator)), 2 ** (seed % 4 + 2)
    lengths = torch.randint(0 if seed % 3 else 1, 9, (requests,), generator=generator).tolist()
    starts = torch.randint(0, 30, (requests,), generator=generator).tolist()
    table = torch.randperm(requests * 20, generator=generator).view(requests, 20).int()
    lod = torch.tensor([0, *lengths]).cumsum(0).int()
    total = int(lod[-1])
    padded = total + seed % 3
    positions = torch.full((padded,), 10**6)
    for request, (count, start) in enumerate(zip(lengths, starts, strict=True)):
        first = int(lod[request])
        positions[first : first + count] = torch.arange(start, start + count)
    written = torch.full((padded + 4,), 77)
    triton_kernels.slots_of_tokens(
        padded, padded + 3, lod, positions, table, 20, written, block_size
    )
    expected = slots(lengths, starts, table, block_size, padded + 3)
    assert torch.equal(written[:-1], expected)
    assert written[-1] == 77, "beyond what is to be written"


def test_positions_shared_among_ranks_are_refused() -> None:
    one = torch.zeros(1, dtype=torch.long)
    with pytest.raises(UnsupportedError, match="context parallelism"):
        triton_kernels.slots_of_tokens(1, 1, one.int(), one, one.view(1, 1), 1, one, 16, 2)


class Override:
    """As much of vLLM's ``KernelOverride`` as is used."""

    def __init__(self, kernel: Any, ours: Any) -> None:
        self.kernel, self.func = kernel, ours


class Owner:
    """A class of vLLM that launches a kernel."""

    kernel: Any = None


def test_put_once_where_the_kernel_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = ModuleType(REGISTRY)
    stand_in.KernelOverride = Override
    import vllm.triton_utils

    original = object()
    monkeypatch.setitem(sys.modules, REGISTRY, stand_in)
    monkeypatch.setattr(vllm.triton_utils, "dispatcher", stand_in, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    runner = ModuleType("runner")
    runner.Owner = Owner
    monkeypatch.setitem(sys.modules, "runner", runner)
    monkeypatch.setattr(triton_kernels, "KERNELS", {"runner:Owner": slots})
    monkeypatch.setattr(Owner, "kernel", original)
    triton_kernels.register()
    first = Owner.kernel
    triton_kernels.register()
    assert Owner.kernel is first
    assert (first.kernel, first.func) == (original, slots)


def test_nothing_where_there_is_no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, REGISTRY, None)  # an import of it would fail
    triton_kernels.register()
