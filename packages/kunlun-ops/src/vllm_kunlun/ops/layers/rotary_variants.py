# SPDX-License-Identifier: Apache-2.0
"""Rotary embeddings of vLLM with a forward of their own, one position per token."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.custom_op import CustomOp
from vllm.model_executor.layers.rotary_embedding import (
    DeepseekScalingRotaryEmbedding,
    DualChunkRotaryEmbedding,
    Llama4VisionRotaryEmbedding,
)
from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb

from vllm_kunlun.ops.torch_ops import rotary
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = [
    "KunlunApplyRotaryEmb",
    "KunlunDeepseekScalingRotaryEmbedding",
    "KunlunDualChunkRotaryEmbedding",
    "KunlunLlama4VisionRotaryEmbedding",
]


class KunlunDeepseekScalingRotaryEmbedding(DeepseekScalingRotaryEmbedding):
    """DeepSeek's YaRN, from a float32 table: the vendor's function takes one beside 16-bit heads.

    Shapes: query ``[T, H, D]``, key ``[T, KVH, D]``, positions ``[T]``; results of the same shapes.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.cos_sin_cache = self._compute_cos_sin_cache()  # vLLM has rounded it to the dtype

    def forward_oot(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Shapes: see the class."""
        if key is None:
            return self.forward_native(positions, query, key, offsets)
        if offsets is not None:
            positions = positions + offsets
        positions = positions.flatten()
        heads = (positions.numel(), -1, self.head_size)
        rotated_query, rotated_key = rotary.rotary_embedding(
            positions,
            query.reshape(heads).contiguous(),
            key.reshape(heads).contiguous(),
            self.head_size,
            self.rotary_dim,
            self.cos_sin_cache,
            self.is_neox_style,
        )
        return rotated_query.view(query.shape), rotated_key.view(key.shape)


class KunlunLlama4VisionRotaryEmbedding(Llama4VisionRotaryEmbedding):
    """Llama 4's rotation over the patches of an image, by real numbers instead of complex ones.

    Shapes: query ``[B, patches, H, D]``, key ``[B, patches, KVH, D]``; results of the same shapes.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        # [patches, 1, D / 2] complex -> [patches, D]: cosines, then sines.
        turns = torch.view_as_real(self.cos_sin_cache).float()
        self.register_buffer("table", turns.transpose(-1, -2).flatten(1), persistent=False)

    def forward_oot(  # type: ignore[override]
        self, query: torch.Tensor, key: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Shapes: see the class."""
        if key is None:
            return self.forward_native(query, key)
        batch, patches, _, size = query.shape
        rotated_query, rotated_key = rotary.rotary_embedding(
            torch.arange(patches, device=query.device).repeat(batch),
            query.reshape(batch * patches, -1, size).contiguous(),
            key.reshape(batch * patches, -1, size).contiguous(),
            size,
            size,
            self.table,
            False,
        )
        return rotated_query.view(query.shape), rotated_key.view(key.shape)


class KunlunApplyRotaryEmb(ApplyRotaryEmb):
    """Rotation by cosines and sines that the caller has, in vision encoders: plain torch.

    vLLM's constructor, which every rotary embedding runs, imports triton code of ``flash_attn`` as
    soon as a package of that name is there; the vendor ships one without that part.
    """

    def __init__(
        self,
        enforce_enable: bool = False,
        is_neox_style: bool = True,
        enable_fp32_compute: bool = False,
    ) -> None:
        CustomOp.__init__(self, enforce_enable=enforce_enable)
        self.is_neox_style = is_neox_style
        self.enable_fp32_compute = enable_fp32_compute
        self.apply_rotary_emb_flash_attn = None

    def forward_oot(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Shapes: x ``[.., S, H, D]``, cos and sin ``[S, rot / 2]`` -> as x."""
        return self.forward_native(x, cos, sin)


class KunlunDualChunkRotaryEmbedding(DualChunkRotaryEmbedding):
    """Refused before a weight is read: no attention function of the vendor works in chunks.

    Raises: UnsupportedError: always.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        raise UnsupportedError(
            "this checkpoint asks for dual chunk attention, for which the Kunlun device has no "
            "function. Remove dual_chunk_attention_config from the checkpoint's config.json and "
            "serve it with --max-model-len of at most the original_max_position_embeddings that "
            "the entry names."
        )
