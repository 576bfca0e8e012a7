# SPDX-License-Identifier: Apache-2.0
"""The paged key and value cache."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["CACHE"]

BLOCKS, BLOCK_SIZE, HEADS, SIZE = 6, 8, 3, 32
SLOTS = [3, 17, 8, 40]


def write(
    inputs: Inputs,
    slots: list[int],
    *,
    slot_dtype: torch.dtype = torch.int64,
    heads_first: bool = True,
    alternating: bool = False,
    heads: int = HEADS,
    native: bool = False,
) -> Call:
    """Tokens into caches of ``[blocks, KVH, block_size, D]``, or with the heads second.

    ``native``: the function that has no keyword.
    """
    page = (heads, BLOCK_SIZE, SIZE) if heads_first else (BLOCK_SIZE, heads, SIZE)
    memory = inputs.normal(*((BLOCKS, 2) if alternating else (2, BLOCKS)), *page)
    caches = memory.unbind(1 if alternating else 0)
    news = [inputs.normal(len(slots), heads, SIZE) for _ in range(2)]
    expected = [cache.double() for cache in caches]
    for cache, new in zip(expected, news, strict=True):
        for token, slot in enumerate(slots):
            block, offset = divmod(slot, BLOCK_SIZE)
            if slot >= 0:
                place = cache[block, :, offset] if heads_first else cache[block, offset]
                place.copy_(new[token])
    arguments = (*news, *caches, inputs.tensor(slots, slot_dtype))
    keywords = {} if native else {"BLHD_LAYOUT": not heads_first}
    return Call(arguments, keywords, {2: expected[0], 3: expected[1]})


def _state_rows(inputs: Inputs) -> Call:
    """One tensor as both caches, pages of one slot: ``pool[index[n]] = state[n]``."""
    pool, state = inputs.normal(BLOCKS, 1, HEADS, SIZE), inputs.normal(2, HEADS, SIZE)
    expected = pool.double()
    expected[4, 0], expected[1, 0] = state[0].double(), state[1].double()
    arguments = (state, state, pool, pool, inputs.tensor([4, 1], torch.int32))
    return Call(arguments, expected={2: expected})


def _form(native: bool) -> tuple[Case, ...]:
    """The cache of attention, by either function."""
    name = "reshape_and_cache" if native else "reshape_and_cache_flash"
    function, assumption = f"kunlun_ops.{name}", "cache-native-write" if native else None
    tried: tuple[tuple[str, dict[str, Any]], ...] = (
        *((f"heads first, {heads}", {"heads": heads, "slots": SLOTS}) for heads in (1, 2, 3, 4)),
        ("heads first, one token", {"slots": [11]}),
        ("heads first, no tokens", {"slots": []}),
    )
    return (
        *(Case(function, label, partial(write, native=native, **keywords),
               finding="kv-cache-write", form=name, assumption=assumption)
          for label, keywords in tried),
        Case(function, "heads first, negative slots",
             partial(write, slots=[-1, 5, -1, 46], native=native), finding="kv-cache-write",
             form=name, assumption=assumption or "cache-negative-slot"),
    )  # fmt: skip


_WRITE = "kunlun_ops.reshape_and_cache_flash"
_STRIDED = partial(write, alternating=True)
CACHE = (
    *_form(native=False),
    *_form(native=True),
    Case(_WRITE, "heads first, alternating pages", partial(_STRIDED, slots=SLOTS),
         finding="kv-cache-write", form="reshape_and_cache_flash"),
    Case(_WRITE, "heads first, negative slots, alternating pages",
         partial(_STRIDED, slots=[5, -1, 46]), assumption="cache-negative-slot",
         finding="kv-cache-write", form="reshape_and_cache_flash"),
    Case(_WRITE, "heads second", partial(write, slots=SLOTS, heads_first=False)),
    Case(_WRITE, "heads second, alternating pages",
         partial(_STRIDED, slots=[47, 0, 9], heads_first=False)),
    Case(_WRITE, "heads second, negative slots",
         partial(write, slots=[-1, 5, -1, 46], heads_first=False),
         assumption="cache-negative-slot"),
    Case(_WRITE, "heads second, int32 slots",
         partial(write, slots=[3, 17, 40], slot_dtype=torch.int32, heads_first=False),
         assumption="cache-int32-slots"),
    Case(_WRITE, "rows of a state", _state_rows, assumption="cache-int32-slots"),
)  # fmt: skip
