# SPDX-License-Identifier: Apache-2.0
"""Caches that the vendor's attention functions cannot read."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kunlun.platforms.checks import cache
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        ({"kv_cache_dtype": "fp8"}, ["--kv-cache-dtype fp8", "--kv-cache-dtype auto"]),
        ({"kv_cache_dtype": "fp8_e5m2"}, ["--kv-cache-dtype fp8_e5m2"]),
        ({"block_size": 8}, ["--block-size 8", "--block-size 16, 32, 64 or 128"]),
        ({"block_size": 256}, ["--block-size 256", "--block-size 16, 32, 64 or 128"]),
    ],
    ids=lambda item: "-".join(map(str, item.values())) if isinstance(item, dict) else "",
)
def test_refused(build: Any, options: dict[str, Any], sentences: list[str]) -> None:
    message = build.refusal(**options)
    for sentence in sentences:
        assert sentence in message


def test_a_latent_cache_in_other_pages(build: Any) -> None:
    message = build.refusal(build.latent, block_size=16)
    assert "--block-size 16" in message and "Use --block-size 64" in message


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_page_sizes(build: Any, size: int) -> None:
    assert build(block_size=size).cache_config.block_size == size


@pytest.mark.parametrize("dtype", [None, "auto", "float16", "bfloat16"])
def test_dtypes_that_run(dtype: str | None) -> None:
    cache.check_dtype(dtype)


def test_every_page_size_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"pages of 16 or 32 tokens\. Use --block-size 16 o"):
        cache.check_block_size(8, (16, 32), fits=False)
    with pytest.raises(UnsupportedError, match=r"pages of 64 tokens\. Use --block-size 64, or"):
        cache.check_block_size(8, (64,), fits=False)
    cache.check_block_size(8, (64,), fits=True)
