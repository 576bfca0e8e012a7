# SPDX-License-Identifier: Apache-2.0
"""Writing the cache by either function gives the same, however its pages lie."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops.attention.cache_write import write_cache
from vllm_kunlun.ops.contract import findings


@pytest.mark.parametrize("form", ["reshape_and_cache_flash", "reshape_and_cache"])
@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_each_token_in_its_slot_and_nothing_else(
    form: str, alternating: bool, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "chosen", {"kv-cache-write": form}.get)
    blocks, block_size, size = 5, 4, 8
    shape = (heads, block_size, size)
    memory = torch.zeros(*((blocks, 2) if alternating else (2, blocks)), *shape)
    caches = memory.unbind(1 if alternating else 0)
    slots = torch.tensor([19, -1, 0, 6])
    key, value = torch.randn(2, 4, heads, size).unbind(0)
    write_cache(key, value, *caches, slots)
    expected = torch.zeros(2, blocks, *shape)
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            for cache, new in zip(expected, (key, value), strict=True):
                cache[slot // block_size, :, slot % block_size] = new[token]
    assert torch.equal(torch.stack(caches), expected)
