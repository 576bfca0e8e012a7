# SPDX-License-Identifier: Apache-2.0
"""The key-value cache: its dtype, and the size of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vllm_kunlun.platforms.card.limits import MLA_BLOCK_SIZE, SUPPORTED_BLOCK_SIZES
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import CacheConfig, VllmConfig

__all__ = ["SUPPORTED_DTYPES", "check", "check_block_size", "check_dtype", "is_hybrid",
           "is_left_open"]  # fmt: skip

SUPPORTED_DTYPES = ("auto", "float16", "bfloat16")
"""vLLM's names of the model's own dtype, in which attention functions read the cache."""


def check(config: VllmConfig) -> None:
    """Refuse a cache that the vendor's attention functions cannot read.

    Raises:
        UnsupportedError: its dtype, or a block size that is no page size. A hybrid model's blocks
            are as long as its recurrent state is large, and are cut into pages.
    """
    cache, model = config.cache_config, config.model_config
    if cache is None:
        return
    check_dtype(cache.cache_dtype)
    if not is_left_open(cache) and not is_hybrid(config):
        latent = model is not None and model.use_mla
        pages = (MLA_BLOCK_SIZE,) if latent else SUPPORTED_BLOCK_SIZES
        check_block_size(cache.block_size, pages, fits=cache.block_size in pages)


def check_dtype(dtype: str | None) -> None:
    """Refuse a cache in another dtype than the model's.

    Args:
        dtype: vLLM's name of it; None where it is left open.

    Raises:
        UnsupportedError: for fp8 in all its forms.
    """
    if dtype is not None and dtype not in SUPPORTED_DTYPES:
        raise UnsupportedError(
            f"--kv-cache-dtype {dtype}: the P800 lacks fp8, and attention functions read the cache "
            "in the model's dtype. Use --kv-cache-dtype auto."
        )


def check_block_size(size: int, pages: Sequence[int], *, fits: bool) -> None:
    """Refuse blocks that the vendor's attention functions cannot read.

    Args:
        size: of a block, in tokens.
        pages: the page sizes that the functions take, in tokens.
        fits: whether ``size`` suits them.

    Raises:
        UnsupportedError: it does not.
    """
    if not fits:
        *others, last = map(str, pages)
        sizes = f"{', '.join(others)} or {last}" if others else last
        raise UnsupportedError(
            f"--block-size {size}: the vendor's attention functions read their cache in pages of "
            f"{sizes} tokens. Use --block-size {sizes}, or leave it out."
        )


def is_left_open(cache: CacheConfig) -> bool:
    """Whether the user left the size of blocks open. 0.33 then has a size there, and says so."""
    return cache.block_size is None or not getattr(cache, "user_specified_block_size", True)


def is_hybrid(config: VllmConfig) -> bool:
    """Whether attention shares its cache with recurrent layers."""
    model = config.model_config
    return model is not None and model.is_hybrid and not model.use_mla
