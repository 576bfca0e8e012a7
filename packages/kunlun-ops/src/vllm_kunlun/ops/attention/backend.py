# SPDX-License-Identifier: Apache-2.0
"""The dense attention backend: what it supports and which classes do the work."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from vllm.v1.attention.backend import AttentionBackend, AttentionType

from vllm_kunlun.ops.attention.implementation import KunlunAttentionImpl
from vllm_kunlun.ops.attention.metadata import KunlunAttentionMetadataBuilder
from vllm_kunlun.ops.contract.limits import HEAD_SIZES, SUPPORTED_BLOCK_SIZES
from vllm_kunlun.ops.vllm_compat import cache_pages

__all__ = ["KunlunAttentionBackend"]


class KunlunAttentionBackend(AttentionBackend):
    """Dense attention on ``prefill_attention`` and ``speculative_attention``."""

    accept_output_buffer: bool = True
    supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16, torch.float32]
    supported_kv_cache_dtypes: ClassVar[list[str]] = ["auto", "float16", "bfloat16"]

    @staticmethod
    def get_name() -> str:
        # vLLM looks the name up in an enumeration whose slot for others is CUSTOM.
        return "CUSTOM"

    @staticmethod
    def get_impl_cls() -> type[KunlunAttentionImpl]:
        return KunlunAttentionImpl

    @staticmethod
    def get_builder_cls() -> type[KunlunAttentionMetadataBuilder]:
        return KunlunAttentionMetadataBuilder

    @staticmethod
    def get_kv_cache_shape(
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_size: int,
        cache_dtype_str: str = "auto",
    ) -> tuple[int, ...]:
        """``(2, blocks, kv_heads, block_size, head_size)``: keys, then values, head-major pages."""
        return (2, num_blocks, num_kv_heads, block_size, head_size)

    @classmethod
    def supported_kv_cache_layouts(cls) -> tuple[Any, ...]:
        """What 0.33 asks in the place of a shape: see :mod:`vllm_compat.cache_pages`."""
        return cache_pages.layouts()

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: object = None) -> list[int]:
        return list(SUPPORTED_BLOCK_SIZES)

    @classmethod
    def supports_block_size(cls, block_size: int | None) -> bool:
        """Any whole number of pages: the runner cuts a hybrid model's long blocks into them."""
        sizes = cls.get_supported_kernel_block_sizes()
        return block_size is None or any(block_size % size == 0 for size in sizes)

    @classmethod
    def get_supported_head_sizes(cls) -> list[int]:
        return list(HEAD_SIZES)

    @classmethod
    def supports_sink(cls) -> bool:
        return True

    @classmethod
    def supports_attn_type(cls, attn_type: str) -> bool:
        return attn_type in (
            AttentionType.DECODER,
            AttentionType.ENCODER,
            AttentionType.ENCODER_ONLY,
        )
