# SPDX-License-Identifier: Apache-2.0
"""The platform's table of what the card takes, against what each attention backend says."""

from __future__ import annotations

import pytest

from vllm_kunlun.platforms.card import limits
from vllm_kunlun.platforms.checks import attention_backends, cache, dtype

PAGES = {
    "dense": limits.SUPPORTED_BLOCK_SIZES,
    "mla": (limits.MLA_BLOCK_SIZE,),
    "mla_sparse": (limits.MLA_BLOCK_SIZE,),
}


@pytest.mark.parametrize("kind", PAGES)
def test_the_installed_backends_say_the_same(kind: str) -> None:
    backend = attention_backends.find(kind).load()
    assert tuple(backend.get_supported_kernel_block_sizes()) == PAGES[kind]
    assert set(backend.supported_kv_cache_dtypes) <= set(cache.SUPPORTED_DTYPES)
    assert set(backend.supported_dtypes) <= set(dtype.SUPPORTED_DTYPES)


def test_the_vendors_limits() -> None:
    """As its functions have them: changing one here changes what is refused."""
    assert limits.SUPPORTED_BLOCK_SIZES == (16, 32, 64, 128)
    assert limits.MLA_BLOCK_SIZE == 64
    assert limits.MAX_DECODE_BATCH == 1023
