# SPDX-License-Identifier: Apache-2.0
"""The paged key and value cache: writing it, and reading pages the way the card does."""

from __future__ import annotations

import torch

from vllm_kunlun.ops.emulator.contract import check_same, check_tensor, require

__all__ = ["dense_pages", "gather_heads", "reshape_and_cache_flash"]

_SLOT_DTYPES = (torch.int64, torch.int32)


def reshape_and_cache_flash(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    BLHD_LAYOUT: bool = True,  # noqa: N803 - the vendor's name
) -> None:
    """Write token ``t`` into slot ``slot_mapping[t]``; a negative slot is skipped.

    ``BLHD_LAYOUT=False``: caches ``[blocks, KVH, block_size, D]``, slot ``s`` is
    ``cache[s // bs, :, s % bs]``. ``True``: ``[blocks, block_size, KVH, D]``. Strides of the caches
    are honoured.
    """
    name = "reshape_and_cache_flash"
    check_tensor(name, "key", key, (key_cache.dtype,), 3)
    check_same(name, "value", value, key)
    check_tensor(name, "slot_mapping", slot_mapping, _SLOT_DTYPES, 1)
    tokens, heads, size = key.shape
    require(slot_mapping.shape[0] == tokens, name, "slot_mapping", f"[{tokens}]",
            tuple(slot_mapping.shape))  # fmt: skip
    head_dim, slot_dim = (2, 1) if BLHD_LAYOUT else (1, 2)
    for argument, cache in (("key_cache", key_cache), ("value_cache", value_cache)):
        ok = cache.dim() == 4 and cache.shape[head_dim] == heads and cache.shape[3] == size
        require(ok, name, argument, f"pages of {heads} heads of {size}", tuple(cache.shape))
    if tokens == 0:
        return
    blocks, block_size = key_cache.shape[0], key_cache.shape[slot_dim]
    low, high = (int(bound) for bound in torch.aminmax(slot_mapping))
    require(high < blocks * block_size, name, "slot_mapping", f"below {blocks * block_size}", high)
    if low < 0:
        kept = slot_mapping >= 0
        key, value, slot_mapping = key[kept], value[kept], slot_mapping[kept]
    slots = slot_mapping.long()
    block, offset = slots // block_size, slots % block_size
    for cache, new in ((key_cache, key), (value_cache, value)):
        pages = cache if BLHD_LAYOUT else cache.transpose(1, 2)
        pages[block, offset] = new


def dense_pages(cache: torch.Tensor) -> torch.Tensor:
    """``cache`` as the attention functions see it: densely packed pages from its first element.

    They ignore strides. In a cache whose key and value pages alternate, page ``2 b`` of this view
    is page ``b`` of ``cache``.
    """
    if cache.is_contiguous():
        return cache
    page = cache.shape[1:]
    size = page.numel()
    offset = cache.storage_offset()
    available = cache.untyped_storage().nbytes() // cache.element_size() - offset
    strides = (size, page[1] * page[2], page[2], 1)
    return cache.as_strided((available // size, *page), strides, offset)


def gather_heads(cache: torch.Tensor, pages: torch.Tensor) -> torch.Tensor:
    """``[B, KVH, n * block_size, D]`` in float32 from dense pages ``[.., KVH, bs, D]``.

    One copy: head ``h`` of page ``p`` is row ``p * KVH + h`` of the cache seen as a matrix.
    """
    blocks, heads, block_size, size = cache.shape
    requests, count = pages.shape
    rows = pages.unsqueeze(1) * heads + torch.arange(heads, device=pages.device).unsqueeze(1)
    flat = cache.view(blocks * heads, block_size * size).index_select(0, rows.reshape(-1))
    return flat.view(requests, heads, count * block_size, size).float()
