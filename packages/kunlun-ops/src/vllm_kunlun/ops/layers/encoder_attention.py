# SPDX-License-Identifier: Apache-2.0
"""Attention of image and sound encoders on the vendor's ``flash_attn``."""

from __future__ import annotations

import math
from typing import Any

import torch
from vllm.logger import init_logger
from vllm.model_executor.layers.attention.mm_encoder_attention import MMEncoderAttention

from vllm_kunlun.ops.torch_ops.encoder_attention import encoder_attention
from vllm_kunlun.ops.vendor_ops import library

__all__ = ["KunlunMMEncoderAttention"]

logger = init_logger("vllm.kunlun.layers")


class KunlunMMEncoderAttention(MMEncoderAttention):
    """``softmax(q . k * scale) v`` without a cache, over sequences that ``cu_seqlens`` packs.

    The longest sequence is not asked for, so nothing waits for the device. vLLM's own arithmetic
    (one torch attention for each sequence) stands in where a card has no ``flash_attn``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = ("flash_attn_func", "flash_attn_varlen_func")
        self._has_kernel = all(library.has("flash_attn", name) for name in names)
        if not self._has_kernel:
            logger.warning_once(
                "The vendor's flash_attn is missing: encoders use torch's attention, a sequence at "
                "a time. Install the vendor's wheel; `vllm-kunlun doctor` lists what is missing."
            )
        default = self.scale is None or math.isclose(self.scale, self.head_size**-0.5)
        self._kernel_scale = None if default else self.scale

    def forward_oot(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seqlens: torch.Tensor | None = None,
        max_seqlen: torch.Tensor | None = None,
        sequence_lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Shapes: query, key and value ``[B, S, heads * D]`` or ``[B, S, heads, D]`` -> as query.

        cu_seqlens int ``[sequences + 1]``. What follows it is for other platforms' functions, and
        the last comes with 0.33.
        """
        batch = query.shape[0]
        if not self._has_kernel or (cu_seqlens is not None and batch != 1):
            # Several rows that cu_seqlens splits alike: the kernel packs one row only.
            return self.forward_native(query, key, value, cu_seqlens)
        if cu_seqlens is not None:
            cu_seqlens = cu_seqlens.to(torch.int32)
        output = encoder_attention(
            query.reshape(batch, query.shape[1], self.num_heads, self.head_size).contiguous(),
            key.reshape(batch, key.shape[1], self.num_kv_heads, self.head_size).contiguous(),
            value.reshape(batch, value.shape[1], self.num_kv_heads, self.head_size).contiguous(),
            cu_seqlens,
            self._kernel_scale,
        )
        return output.reshape(query.shape)
