# SPDX-License-Identifier: Apache-2.0
"""The two forms of a dense layer's cache lead to pages of keys and pages of values."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops.attention.cache_write import write_cache
from vllm_kunlun.ops.vllm_compat import cache_pages
from vllm_kunlun.platforms.errors import UnsupportedError

BLOCKS, HEADS, TOKENS, SIZE = 3, 2, 16, 64


def test_two_tensors_of_pages() -> None:
    cache = torch.randn(2, BLOCKS, HEADS, TOKENS, SIZE)
    keys, values = cache_pages.split(cache, SIZE)
    assert torch.equal(keys, cache[0])
    assert torch.equal(values, cache[1])


def test_one_tensor_is_read_as_a_page_of_keys_and_a_page_of_values() -> None:
    cache = torch.randn(BLOCKS, HEADS, TOKENS, 2 * SIZE)
    keys, values = cache_pages.split(cache, SIZE)
    page = HEADS * TOKENS * SIZE
    flat = cache.flatten()
    for block in range(BLOCKS):
        first = 2 * block * page
        assert torch.equal(keys[block].flatten(), flat[first : first + page])
        assert torch.equal(values[block].flatten(), flat[first + page : first + 2 * page])
        assert keys[block].is_contiguous()
        assert values[block].is_contiguous()


def test_what_is_written_stays_in_its_own_block() -> None:
    cache = torch.zeros(BLOCKS, HEADS, TOKENS, 2 * SIZE)
    keys, values = cache_pages.split(cache, SIZE)
    new = torch.randn(2, 5, HEADS, SIZE)
    slots = torch.arange(TOKENS, TOKENS + 5)
    write_cache(new[0], new[1], keys, values, slots)
    assert torch.equal(keys[1, :, :5].transpose(0, 1), new[0])
    assert torch.equal(values[1, :, :5].transpose(0, 1), new[1])
    assert not cache[0].any()
    assert not cache[2].any()


def test_values_of_another_size_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="keys and values of one size"):
        cache_pages.split(torch.zeros(BLOCKS, HEADS, TOKENS, SIZE + 32), SIZE)


def test_a_gap_between_blocks_is_refused() -> None:
    wide = torch.zeros(2 * BLOCKS, HEADS, TOKENS, 2 * SIZE)
    with pytest.raises(UnsupportedError, match="do not follow one another"):
        cache_pages.split(wide[::2], SIZE)
