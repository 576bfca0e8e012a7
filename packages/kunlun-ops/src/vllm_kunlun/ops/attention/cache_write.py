# SPDX-License-Identifier: Apache-2.0
"""New keys and values into the paged cache, by the function that the card finding chooses."""

from __future__ import annotations

import torch

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract import findings

__all__ = ["write_cache"]


def write_cache(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    """Write token ``t`` into slot ``slot_mapping[t]``; a negative slot is skipped.

    Shapes: key, value ``[T, KVH, D]``, contiguous; caches ``[blocks, KVH, block_size, D]``, dense,
    or with a page of the other cache after each of their own; slot_mapping int64 ``[T]``.
    """
    if findings.chosen("kv-cache-write") == "reshape_and_cache_flash":
        vendor_ops.reshape_and_cache_flash(
            key, value, key_cache, value_cache, slot_mapping, BLHD_LAYOUT=False
        )
        return
    if not key_cache.is_contiguous():
        # The function looks at no stride: to it, page b is page 2b of both kinds.
        block_size = key_cache.shape[2]
        pages = slot_mapping.div(block_size, rounding_mode="floor")
        slot_mapping = slot_mapping + pages * block_size
        key_cache, value_cache = _both_kinds(key_cache), _both_kinds(value_cache)
    vendor_ops.reshape_and_cache(key, value, key_cache, value_cache, slot_mapping)


def _both_kinds(cache: torch.Tensor) -> torch.Tensor:
    """A cache of alternating pages with the other cache's pages between, up to its own last."""
    blocks, *page = cache.shape
    dense = torch.Size(page).numel()
    return cache.as_strided((2 * blocks - 1, *page), (dense, *cache.stride()[1:]))
