# SPDX-License-Identifier: Apache-2.0
"""The cache of a dense attention layer: pages of keys and pages of values.

Until 0.16 the backend says the shape of its cache. 0.33 makes one tensor for a layer, of which each
block holds keys and values together, and means them side by side in the last dimension. The
vendor's functions take pages of one kind, so the block's memory is read as one page of keys and a
page of values behind it. Nothing else reads it: vLLM copies and clears whole blocks.
"""

from __future__ import annotations

from typing import Any

import torch

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["layouts", "split"]

_HAS_LAYOUTS = version.installed_is_from("0.33")


def layouts() -> tuple[Any, ...]:
    """How 0.33 may lay the cache out: layer by layer, block by block, dense within a block.

    Earlier releases do not ask.
    """
    if _HAS_LAYOUTS:
        from vllm.v1.kv_cache_layout import KVCacheLayout

        return (KVCacheLayout.LBHNC,)
    return ()


def split(kv_cache: torch.Tensor, head_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of ``kv_cache``, each ``[blocks, KVH, block size, D]``.

    Shapes: kv_cache ``[2, blocks, KVH, block size, D]``, or of 0.33
    ``[blocks, KVH, block size, 2 D]``.

    Raises:
        UnsupportedError: values are of another size than keys, or something lies between blocks.
    """
    if kv_cache.dim() == 5:
        keys, values = kv_cache.unbind(0)
        return keys, values
    blocks, heads, tokens, both = kv_cache.shape
    if both != 2 * head_size:
        raise UnsupportedError(
            f"a cache of {both} numbers for a token and a head of {head_size}: the vendor's "
            "attention functions take keys and values of one size. Run the model on another "
            "platform."
        )
    if blocks > 1 and kv_cache.stride(0) != heads * tokens * both:
        raise UnsupportedError(
            "the cache's blocks do not follow one another in memory. Leave VLLM_KV_CACHE_LAYOUT "
            "unset, and run the model without a drafter or other layers that share its blocks."
        )
    keys, values = kv_cache.view(blocks, 2, heads, tokens, head_size).unbind(1)
    return keys, values
