# SPDX-License-Identifier: Apache-2.0
"""The size of the cache's blocks, where it is left open and in hybrid models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms.card.limits import MLA_BLOCK_SIZE
from vllm_kunlun.platforms.checks.cache import is_hybrid, is_left_open

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["DEFAULT_BLOCK_SIZE", "update"]

DEFAULT_BLOCK_SIZE = 64
"""Of the manual's start-up templates. Attention reads longer runs than from vLLM's 16."""


def update(config: VllmConfig) -> None:
    """Choose a block size where none was asked for; make a hybrid model's blocks whole pages."""
    cache, model = config.cache_config, config.model_config
    if cache is None:
        return
    if is_hybrid(config):
        # The runner cuts it into the longest pages that fit, and attention reads long ones faster.
        cache.block_size = -(-cache.block_size // DEFAULT_BLOCK_SIZE) * DEFAULT_BLOCK_SIZE
    elif is_left_open(cache):
        latent = model is not None and model.use_mla
        cache.block_size = MLA_BLOCK_SIZE if latent else DEFAULT_BLOCK_SIZE
    if hasattr(cache, "user_specified_block_size"):
        # Else 0.33 chooses again, by its own order. Once it has a hybrid model's layers, it makes
        # blocks as long as a recurrent state is large: so many of these.
        cache.user_specified_block_size = True
    elif is_hybrid(config):
        _fit_states(config)


def _fit_states(config: VllmConfig) -> None:
    """Give the recurrent states of a hybrid model pages as large as those of attention.

    vLLM has made a block as long as a state is large, a multiple of 16 tokens; here it has become
    whole pages of the attention functions.
    """
    from vllm.utils.torch_utils import get_kv_cache_torch_dtype
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    cache, model = config.cache_config, config.model_config
    # Attention and recurrent layers share one pool of blocks, so their pages are equally large.
    cache.mamba_page_size_padded = FullAttentionSpec(
        block_size=cache.block_size,
        num_kv_heads=model.get_num_kv_heads(config.parallel_config),
        head_size=model.get_head_size(),
        dtype=get_kv_cache_torch_dtype(cache.cache_dtype, model.dtype),
    ).page_size_bytes
    if cache.mamba_cache_mode == "align":
        cache.mamba_block_size = cache.block_size
