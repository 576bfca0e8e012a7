# SPDX-License-Identifier: Apache-2.0
"""The paged key and value cache."""

from __future__ import annotations

import torch

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["CACHE"]

BLOCKS, BLOCK_SIZE, HEADS, SIZE = 6, 8, 3, 32


def write(
    inputs: Inputs,
    slots: list[int],
    *,
    slot_dtype: torch.dtype = torch.int64,
    heads_first: bool = True,
    alternating: bool = False,
) -> Call:
    """Tokens into caches of ``[blocks, KVH, block_size, D]``, or with the heads second."""
    page = (HEADS, BLOCK_SIZE, SIZE) if heads_first else (BLOCK_SIZE, HEADS, SIZE)
    memory = inputs.normal(*((BLOCKS, 2) if alternating else (2, BLOCKS)), *page)
    caches = memory.unbind(1 if alternating else 0)
    news = [inputs.normal(len(slots), HEADS, SIZE) for _ in range(2)]
    expected = [cache.double() for cache in caches]
    for cache, new in zip(expected, news, strict=True):
        for token, slot in enumerate(slots):
            block, offset = divmod(slot, BLOCK_SIZE)
            if slot >= 0:
                place = cache[block, :, offset] if heads_first else cache[block, offset]
                place.copy_(new[token])
    arguments = (*news, *caches, inputs.tensor(slots, slot_dtype))
    keywords = {"BLHD_LAYOUT": not heads_first}
    return Call(arguments, keywords, {2: expected[0], 3: expected[1]})


def _state_rows(inputs: Inputs) -> Call:
    """One tensor as both caches, pages of one slot: ``pool[index[n]] = state[n]``."""
    pool, state = inputs.normal(BLOCKS, 1, HEADS, SIZE), inputs.normal(2, HEADS, SIZE)
    expected = pool.double()
    expected[4, 0], expected[1, 0] = state[0].double(), state[1].double()
    arguments = (state, state, pool, pool, inputs.tensor([4, 1], torch.int32))
    return Call(arguments, expected={2: expected})


_WRITE = "kunlun_ops.reshape_and_cache_flash"
CACHE = (
    Case(_WRITE, "heads first", lambda i: write(i, [3, 17, 8, 40])),
    Case(_WRITE, "heads second", lambda i: write(i, [3, 17, 8, 40], heads_first=False)),
    Case(_WRITE, "alternating pages", lambda i: write(i, [3, 17, 8, 40], alternating=True)),
    Case(_WRITE, "alternating pages, heads second",
         lambda i: write(i, [47, 0, 9], heads_first=False, alternating=True)),
    Case(_WRITE, "negative slots", lambda i: write(i, [-1, 5, -1, 46]),
         assumption="cache-negative-slot"),
    Case(_WRITE, "negative slots, alternating pages",
         lambda i: write(i, [5, -1, 46], alternating=True), assumption="cache-negative-slot"),
    Case(_WRITE, "int32 slots", lambda i: write(i, [3, 17, 40], slot_dtype=torch.int32),
         assumption="cache-int32-slots"),
    Case(_WRITE, "rows of a state", _state_rows, assumption="cache-int32-slots"),
    Case(_WRITE, "one token", lambda i: write(i, [11])),
    Case(_WRITE, "no tokens", lambda i: write(i, [])),
)  # fmt: skip
