# SPDX-License-Identifier: Apache-2.0
"""Block sizes that the platform chooses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.config import CacheConfig

from vllm_kunlun.platforms.card import limits
from vllm_kunlun.platforms.settings import cache


def test_a_dense_cache_gets_blocks_of_64(build: Any) -> None:
    assert build().cache_config.block_size == cache.DEFAULT_BLOCK_SIZE == 64


def test_a_latent_cache_gets_pages_of_64(build: Any) -> None:
    assert build(build.latent).cache_config.block_size == limits.MLA_BLOCK_SIZE == 64


def test_a_size_that_vllm_put_there_is_not_the_users(build: Any) -> None:
    """0.33 has a size at once, and says whether it was asked for."""
    config = build()
    config.cache_config = SimpleNamespace(block_size=16, user_specified_block_size=False)
    cache.update(config)
    assert config.cache_config.block_size == 64
    assert config.cache_config.user_specified_block_size, "so that it is not chosen again"
    config.cache_config = SimpleNamespace(block_size=32, user_specified_block_size=True)
    cache.update(config)
    assert config.cache_config.block_size == 32


fitted_here = pytest.mark.skipif(
    hasattr(CacheConfig, "user_specified_block_size"),
    reason="this vLLM fits a hybrid model's pages itself, once it has the layers",
)


@fitted_here
@pytest.mark.parametrize(("asked", "given"), [(None, 128), (64, 128), (192, 192), (200, 256)])
def test_a_hybrid_models_blocks_are_whole_pages(build: Any, asked: Any, given: int) -> None:
    """As long as a recurrent state is large, and a multiple of a page of attention."""
    chosen = build(build.hybrid, block_size=asked).cache_config
    assert chosen.block_size == given
    token_bytes = 2 * 32 * 2  # a key and a value of one head in float16
    assert chosen.mamba_page_size_padded == given * token_bytes
    state_bytes = 2 * (4 * 32 * 32 + 3 * (2 * 64 + 128))
    assert state_bytes <= chosen.mamba_page_size_padded


def test_a_hybrid_models_pages_are_left_to_a_vllm_that_fits_them_later(build: Any) -> None:
    """0.33, to which the size is that of a step in which blocks grow."""
    config = build(build.hybrid)
    for asked, given in ((16, 64), (100, 128)):
        config.cache_config = SimpleNamespace(block_size=asked, user_specified_block_size=False)
        cache.update(config)
        assert vars(config.cache_config) == {
            "block_size": given, "user_specified_block_size": True
        }  # fmt: skip


@fitted_here
@pytest.mark.parametrize(("mode", "follows"), [("align", True), ("none", False)])
def test_states_are_kept_at_the_ends_of_blocks_where_they_are_aligned(
    build: Any, mode: str, follows: bool
) -> None:
    config = build(build.hybrid)
    config.cache_config.mamba_cache_mode = mode
    config.cache_config.mamba_block_size = 1
    cache.update(config)
    assert config.cache_config.mamba_block_size == (
        config.cache_config.block_size if follows else 1
    )
