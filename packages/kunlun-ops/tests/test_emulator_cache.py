# SPDX-License-Identifier: Apache-2.0
"""Writing the paged cache: against one assignment per token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.ops.emulator.contract import VendorContractError
from vllm_kunlun.ops.emulator.kunlun_ops import reshape_and_cache_flash


def make_caches(
    blocks: int, heads: int, block_size: int, size: int, dtype: torch.dtype, *, interleaved: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Heads before slots; alternating in memory if ``interleaved``."""
    shape = (blocks, 2) if interleaved else (2, blocks)
    memory = torch.randn(*shape, heads, block_size, size).to(dtype)
    key_cache, value_cache = memory.unbind(1 if interleaved else 0)
    return key_cache, value_cache


def test_by_hand() -> None:
    """Slot 5 of pages of 4 is the second place of page 1."""
    caches = [torch.zeros(3, 1, 4, 2) for _ in range(2)]
    new = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    reshape_and_cache_flash(new, new * 10, *caches, torch.tensor([5, -1]), BLHD_LAYOUT=False)
    assert caches[0][1, 0, 1].tolist() == [1.0, 2.0]
    assert caches[1][1, 0, 1].tolist() == [10.0, 20.0]
    assert [cache.count_nonzero().item() for cache in caches] == [2, 2]


def test_slots_of_both_dtypes_one_after_the_other() -> None:
    for dtype in (torch.int64, torch.int32):
        cache, new = torch.zeros(3, 1, 4, 2), torch.ones(1, 1, 2)
        slots = torch.tensor([6], dtype=dtype)
        reshape_and_cache_flash(new, new, cache, cache, slots, BLHD_LAYOUT=False)
        assert cache[1, 0, 2].tolist() == [1.0, 1.0]
        assert cache.sum() == 2


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(0, 20),
    heads=st.integers(1, 3),
    block_size=st.sampled_from([1, 4, 16]),
    blhd=st.booleans(),
    interleaved=st.booleans(),
    slot_dtype=st.sampled_from([torch.int64, torch.int32]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 100),
)
def test_against_a_loop(
    tokens: int, heads: int, block_size: int, blhd: bool, interleaved: bool,
    slot_dtype: torch.dtype, dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    blocks, size = 24 // block_size + 1, 6
    page = (block_size, heads) if blhd else (heads, block_size)
    caches = make_caches(blocks, page[0], page[1], size, dtype, interleaved=interleaved)
    expected = [cache.clone() for cache in caches]
    slots = torch.randperm(blocks * block_size)[:tokens]
    slots[torch.rand(tokens) < 0.2] = -1
    news = [torch.randn(tokens, heads, size).to(dtype) for _ in range(2)]
    for cache, new in zip(expected, news, strict=True):
        for token, slot in enumerate(slots.tolist()):
            if slot >= 0:
                block, offset = divmod(slot, block_size)
                (cache[block, offset] if blhd else cache[block, :, offset]).copy_(new[token])
    reshape_and_cache_flash(*news, *caches, slots.to(slot_dtype), BLHD_LAYOUT=blhd)
    for cache, wanted in zip(caches, expected, strict=True):
        assert torch.equal(cache, wanted)


def test_scatters_state_rows() -> None:
    """One tensor as both caches, pages of one slot: ``pool[index[n]] = state[n]``."""
    pool = torch.zeros(5, 1, 3, 2)
    state = torch.randn(2, 3, 2)
    slots = torch.tensor([4, 1], dtype=torch.int32)
    reshape_and_cache_flash(state, state, pool, pool, slots, BLHD_LAYOUT=True)
    assert torch.equal(pool[[4, 1], 0], state)
    assert not pool[[0, 2, 3]].any()


def test_slots_changed_in_place_are_seen() -> None:
    """The plan of a step must not outlive the slots that it was made from."""
    caches = [torch.zeros(4, 1, 2, 2) for _ in range(2)]
    new, slots = torch.ones(2, 1, 2), torch.tensor([0, 1])
    reshape_and_cache_flash(new, new, *caches, slots, BLHD_LAYOUT=False)
    slots += 4
    reshape_and_cache_flash(new * 2, new * 2, *caches, slots, BLHD_LAYOUT=False)
    assert caches[0][:, 0, 0, 0].tolist() == [1.0, 0.0, 2.0, 0.0]


VIOLATIONS: dict[str, tuple[int, str, Callable[[torch.Tensor], Any]]] = {
    "key dtype": (0, "key", lambda t: t.double()),
    "key dims": (0, "key", lambda t: t[0]),
    "key not contiguous": (0, "key", lambda t: t.transpose(0, 1).contiguous().transpose(0, 1)),
    "value tokens": (1, "value", lambda t: t[:2]),
    "value None": (1, "value", lambda t: None),
    "cache dtype": (2, "key_cache", lambda t: t.half()),
    "cache heads": (2, "key_cache", lambda t: t[:, :1]),
    "cache page not contiguous": (2, "key_cache", lambda t: t[..., ::2]),
    "value cache dims": (3, "value_cache", lambda t: t[0]),
    "value cache blocks": (3, "value_cache", lambda t: t[:2]),
    "slot dtype": (4, "slot_mapping", lambda t: t.float()),
    "slot count": (4, "slot_mapping", lambda t: t[:1]),
    "slot beyond the cache": (4, "slot_mapping", lambda t: t + 100),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_refuses(case: str) -> None:
    index, argument, change = VIOLATIONS[case]
    call = [torch.randn(3, 2, 8), torch.randn(3, 2, 8), torch.zeros(5, 2, 4, 8),
            torch.zeros(5, 2, 4, 8), torch.arange(3)]  # fmt: skip
    call[index] = change(call[index])
    with pytest.raises(VendorContractError) as raised:
        reshape_and_cache_flash(*call, BLHD_LAYOUT=False)
    assert (raised.value.function, raised.value.argument) == ("reshape_and_cache_flash", argument)
