# SPDX-License-Identifier: Apache-2.0
"""Writes into parameters are seen whatever op makes them, and made only when they are real."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.loading.writes import NeedsNumbersError, Source, Writes


def tensor(writes, *shape, dtype=torch.float32, name="a"):
    made = torch.empty(shape, dtype=dtype, device="meta")
    return writes.follow(made, Source(name, "f", shape, dtype))


@pytest.fixture
def writes():
    return Writes({"weight": torch.zeros(6, 4)})


WAYS = {
    "copy": lambda p, t: p.copy_(t),
    "narrow": lambda p, t: p.narrow(0, 0, 6).copy_(t),
    "item": lambda p, t: p.__setitem__(slice(None), t),
    "rows": lambda p, t: [p[row].copy_(t[row]) for row in range(6)],
    "transposed": lambda p, t: p.t().copy_(t.t()),
    "index": lambda p, t: p.index_copy_(0, torch.arange(6), t),
    "foreach": lambda p, t: torch._foreach_copy_([p], [t]),
    "converted": lambda p, t: p.copy_(t.half().contiguous() + 1),
    "split": lambda p, t: [a.copy_(b) for a, b in zip(p.chunk(2), t.chunk(2), strict=True)],
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_of_writing(way, writes):
    parameter = torch.zeros(6, 4)
    writes = Writes({"weight": parameter})
    with writes:
        WAYS[way](parameter, tensor(writes, 6, 4))
    target = writes.targets["weight"]
    assert target.written == 24
    assert target.sources["a"].used == 24
    assert not parameter.any()


def test_a_part_that_is_written_twice_counts_once():
    parameter = torch.zeros(6, 4)
    writes = Writes({"weight": parameter})
    with writes:
        for name in ("a", "b"):
            parameter[:2].copy_(tensor(writes, 2, 4, name=name))
    assert writes.targets["weight"].written == 8
    assert set(writes.targets["weight"].sources) == {"a", "b"}


@pytest.mark.parametrize("way", ["packed", "reinterpreted", "cut"])
def test_what_is_computed_of_a_tensor_uses_all_of_it(way):
    parameter = torch.zeros(3, 4, dtype=torch.int32)
    writes = Writes({"weight": parameter})
    codes = tensor(writes, *((3, 16) if way == "reinterpreted" else (6, 4)), dtype=torch.int8)
    with writes:
        if way == "packed":
            parameter.copy_(codes[::2] | codes[1::2] << 4)
        else:
            parameter.copy_(codes.view(torch.int32) if way == "reinterpreted" else codes[:3])
    used = writes.targets["weight"].sources["a"].used
    assert used == (12 if way == "cut" else codes.numel())


def test_other_kinds_of_numbers_are_noted():
    parameter = torch.zeros(6, 4)
    writes = Writes({"weight": parameter})
    with writes:
        for dtype in (torch.float16, torch.int8, torch.bool, torch.complex64, torch.float8_e5m2):
            parameter.copy_(tensor(writes, 6, 4, dtype=dtype))
    assert [came for _, _, came, _ in writes.casts] == [
        torch.int8, torch.bool, torch.complex64, torch.float8_e5m2,
    ]  # fmt: skip


def test_real_writes_are_made_too():
    parameter = torch.zeros(2, 2)
    writes = Writes({"weight": parameter}, real=True)
    loaded = torch.ones(2, 2)
    with writes:
        parameter.copy_(writes.follow(loaded, Source("a", "f", (2, 2), loaded.dtype)))
    assert parameter.all()
    assert writes.targets["weight"].written == 4


def test_numbers_that_are_not_there(writes):
    with writes, pytest.raises(NeedsNumbersError):
        tensor(writes, 6, 4).sum().item()
