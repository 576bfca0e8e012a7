# SPDX-License-Identifier: Apache-2.0
"""How many queries of a request are a decode: as many as are verified, up to the card's limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config import VllmConfig
from vllm.v1.kv_cache_interface import FullAttentionSpec

from vllm_kunlun.ops.attention.backend import KunlunAttentionBackend


def builder(drafts: int) -> Any:
    speculative = SimpleNamespace(num_speculative_tokens=drafts) if drafts else None
    config = SimpleNamespace(
        speculative_config=speculative, parallel_config=VllmConfig().parallel_config
    )
    spec = FullAttentionSpec(block_size=64, num_kv_heads=2, head_size=64, dtype=torch.float16)
    make = KunlunAttentionBackend.get_builder_cls()
    return make(spec, ["layer"], config, torch.device("cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("drafts", "queries"), [(0, 1), (1, 2), (30, 31), (31, 32), (32, 32), (100, 32)]
)
def test_decode_takes_what_is_verified_up_to_32_queries(drafts: int, queries: int) -> None:
    assert builder(drafts).reorder_batch_threshold == queries


def test_page_and_head_sizes_are_the_contracts() -> None:
    assert KunlunAttentionBackend.get_supported_kernel_block_sizes() == [16, 32, 64, 128]
    sizes = KunlunAttentionBackend.get_supported_head_sizes()
    assert sizes == [32, 64, 80, 96, 112, 120, 128, 192, 256, 512]
    assert KunlunAttentionBackend.supports_block_size(192)
    assert not KunlunAttentionBackend.supports_block_size(24)
