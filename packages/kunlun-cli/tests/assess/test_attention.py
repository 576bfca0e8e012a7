# SPDX-License-Identifier: Apache-2.0
"""Layers by what they keep."""

from __future__ import annotations

import torch

from vllm_kunlun.cli.assess.attention import kinds


def test_each_kind_is_counted_and_said():
    from vllm.v1.kv_cache_interface import (
        ChunkedLocalAttentionSpec,
        CrossAttentionSpec,
        FullAttentionSpec,
        MambaSpec,
        MLAAttentionSpec,
        SlidingWindowSpec,
    )

    common = {"block_size": 64, "num_kv_heads": 2, "head_size": 32, "dtype": torch.float16}
    found = kinds([
        FullAttentionSpec(**common),
        FullAttentionSpec(**common),
        FullAttentionSpec(**common, sliding_window=7),
        SlidingWindowSpec(**common, sliding_window=128),
        ChunkedLocalAttentionSpec(**common, attention_chunk_size=8192),
        CrossAttentionSpec(**common),
        MLAAttentionSpec(block_size=64, num_kv_heads=1, head_size=576, dtype=torch.float16),
        MambaSpec(block_size=64, shapes=((3, 8), (4, 5, 6)), dtypes=(torch.float16,) * 2),
    ])  # fmt: skip
    heads = "2 heads of 32 for keys and values"
    assert found[0] == f"2 layers: full attention, {heads}"
    assert set(found[1:]) == {
        f"1 layer: a window of 7 tokens, {heads}",
        f"1 layer: a window of 128 tokens, {heads}",
        f"1 layer: chunks of 8192 tokens, {heads}",
        f"1 layer: attention to an encoder, {heads}",
        "1 layer: latent attention, 576 numbers a token",
        "1 layer: a state of 3x8, 4x5x6 (linear attention or a state space)",
    }
