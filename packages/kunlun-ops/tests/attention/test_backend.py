# SPDX-License-Identifier: Apache-2.0
"""What the dense backend says of itself."""

from __future__ import annotations

from vllm.v1.attention.backend import AttentionType

from vllm_kunlun.ops.attention.backend import KunlunAttentionBackend
from vllm_kunlun.ops.attention.implementation import KunlunAttentionImpl
from vllm_kunlun.ops.attention.metadata import (
    KunlunAttentionMetadataBuilder,
)


def test_what_the_backend_says_of_itself() -> None:
    backend = KunlunAttentionBackend
    assert backend.get_kv_cache_shape(10, 16, 2, 64) == (2, 10, 2, 16, 64)
    assert backend.get_impl_cls() is KunlunAttentionImpl
    assert backend.get_builder_cls() is KunlunAttentionMetadataBuilder
    assert backend.supports_sink()
    assert backend.supports_head_size(64) and not backend.supports_head_size(72)
    assert not backend.supports_attn_type(AttentionType.ENCODER_DECODER)
