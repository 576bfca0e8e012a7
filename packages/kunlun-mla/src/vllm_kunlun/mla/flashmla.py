# SPDX-License-Identifier: Apache-2.0
"""Dense MLA: prefill over expanded heads, decode on the latent cache."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from vllm.model_executor.layers.attention.mla_attention import MLACommonBackend

from vllm_kunlun.mla import workspace
from vllm_kunlun.mla.implementation import KunlunMLAImpl, refuse_output_scale
from vllm_kunlun.mla.metadata import (
    ContextChunk,
    DecodeRows,
    FlashMLAMetadata,
    FlashMLAMetadataBuilder,
    context_capacity_tokens,
)
from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.attention.metadata import Prefill
from vllm_kunlun.ops.contract.limits import MLA_BLOCK_SIZE
from vllm_kunlun.ops.vendor_ops.attention import EMPTY_LSE
from vllm_kunlun.ops.vllm_compat import cache_pages
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["FlashMLABackend", "FlashMLAImpl", "FlashMLAMetadata", "FlashMLAMetadataBuilder"]


class FlashMLABackend(MLACommonBackend):
    """MLA on ``attention`` (prefill) and ``paged_attention`` (decode), a cache in pages of 64."""

    supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16, torch.float32]
    supported_kv_cache_dtypes: ClassVar[list[str]] = ["auto", "float16", "bfloat16"]

    @staticmethod
    def get_name() -> str:
        # vLLM looks the name up in an enumeration whose slot for others is CUSTOM.
        return "CUSTOM"

    @staticmethod
    def get_impl_cls() -> type[FlashMLAImpl]:
        return FlashMLAImpl

    @staticmethod
    def get_builder_cls() -> type[FlashMLAMetadataBuilder]:
        return FlashMLAMetadataBuilder

    @classmethod
    def supported_kv_cache_layouts(cls) -> tuple[Any, ...]:
        """What 0.33 asks: pages of a layer that follow one another."""
        return cache_pages.layouts()

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: object = None) -> list[int]:
        return [MLA_BLOCK_SIZE]

    @classmethod
    def get_supported_head_sizes(cls) -> list[int]:
        """Empty, which is vLLM's way to say any: latent and rotary width are arguments."""
        return []


class FlashMLAImpl(KunlunMLAImpl):
    """One dense MLA layer.

    Prefill: ``kv_b_proj`` multiplies latent rows up to keys and values of every head; the new
    tokens' are attended causally, those of the context chunk by chunk, and the parts are merged by
    their log-sum-exps. Decode: the query is brought to the latent's width and attends the cache.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if self.v_head_dim > self.qk_head_dim:
            raise UnsupportedError(
                f"v_head_dim={self.v_head_dim} is above qk_nope_head_dim + qk_rope_head_dim="
                f"{self.qk_head_dim}: the vendor's MLA prefill takes values no wider than keys. "
                "Start with VLLM_MLA_DISABLE=1, which serves the model with full heads."
            )
        from vllm.config import get_current_vllm_config

        self._capacity_tokens = context_capacity_tokens(get_current_vllm_config())
        # The prefill function multiplies by 1/sqrt(D) itself.
        self._alpha = self.scale * math.sqrt(self.qk_head_dim)

    def forward(
        self,
        layer: Any,
        q: torch.Tensor,
        k_c_normed: torch.Tensor,
        k_pe: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: FlashMLAMetadata | None,
        output: torch.Tensor | None = None,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Fill ``output`` with attention of ``q`` over cache and new tokens.

        Shapes: q ``[T, H, P + R]``, k_c_normed ``[T, L]``, k_pe ``[T, 1, R]``, kv_cache
        ``[blocks, 64, L + R]``, output ``[T, H V]``; ``T`` may be padded beyond the step's tokens.
        """
        assert output is not None
        refuse_output_scale(output_scale, output_block_scale)
        if attn_metadata is None:  # vLLM's profiling run: hold what a step may hold
            self._context_rows(self._capacity_tokens, q.dtype)
            heads = self.num_heads * (self.qk_nope_head_dim + self.v_head_dim)
            q.new_empty(self._capacity_tokens, heads)
            return output.zero_()
        tokens = attn_metadata.num_actual_tokens
        k_c_normed, k_pe = k_c_normed[:tokens].contiguous(), k_pe[:tokens, 0].contiguous()
        vendor_ops.concat_and_cache_mla(
            k_c_normed, k_pe, attn_metadata.slot_mapping[:tokens], kv_cache
        )
        if (rows := attn_metadata.decode) is not None:
            part = slice(0, rows.seq_lens.shape[0])
            self._decode(q[part], kv_cache, rows, output[part])
        if (prefill := attn_metadata.prefill) is not None:
            part = slice(prefill.first_token, prefill.first_token + prefill.num_tokens)
            new = self._expanded(k_c_normed[part], k_pe[part])
            context = attn_metadata.context
            self._prefill(q[part].contiguous(), new, kv_cache, prefill, context, output[part])
        return output

    def _decode(
        self, q: torch.Tensor, kv_cache: torch.Tensor, rows: DecodeRows, output: torch.Tensor
    ) -> None:
        latent = q.new_empty(q.shape[0], 1, self.num_heads, self.kv_lora_rank)
        vendor_ops.paged_attention(
            latent,
            self.absorbed(q).unsqueeze(1),
            kv_cache.unsqueeze(1),
            rows.block_table,
            rows.seq_lens_host,
            rows.seq_lens,
            self.kv_lora_rank,
            self.qk_rope_head_dim,
            self.scale,
        )
        self.write_values(latent.squeeze(1), output)

    def _prefill(
        self,
        q: torch.Tensor,
        new: tuple[torch.Tensor, torch.Tensor],
        kv_cache: torch.Tensor,
        part: Prefill,
        context: list[ContextChunk],
        output: torch.Tensor,
    ) -> None:
        attended, lse = torch.empty_like(q), self._lse(q)
        vendor_ops.attention(
            q=q,
            k_cache=new[0],
            v_cache=new[1],
            out=attended,
            is_causal=True,
            context_seq_lod_cpu=part.query_lod_host,
            context_seq_lod_xpu=part.query_lod,
            alpha=self._alpha,
            softmax_lse=lse,
        )
        if context:
            lse = _of_tokens(lse)
        for chunk in context:
            attended, lse = self._with_context(q, kv_cache, part, chunk, attended, lse)
        output.view(-1, self.num_heads, self.v_head_dim).copy_(attended[..., : self.v_head_dim])

    def _with_context(
        self,
        q: torch.Tensor,
        kv_cache: torch.Tensor,
        part: Prefill,
        chunk: ContextChunk,
        attended: torch.Tensor,
        lse: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``attended`` and its log-sum-exp ``[T, H]`` with the keys of ``chunk`` added."""
        rows = self._context_rows(chunk.num_tokens, kv_cache.dtype)
        vendor_ops.gather_and_maybe_dequant_cache(
            src_cache=kv_cache,
            dst=rows,
            block_table=part.block_table,
            cu_seq_lens=chunk.kv_lod,
            batch_size=part.block_table.shape[0],
            kv_cache_dtype="auto",
            scale=self.unit_scale,
            seq_starts=chunk.starts,
        )
        latent, rope = rows.split([self.kv_lora_rank, self.qk_rope_head_dim], -1)
        key, value = self._expanded(latent.contiguous(), rope)
        # Zeros: a request that has no keys in this chunk may be left as it is.
        chunk_attended, chunk_lse = torch.zeros_like(q), self._lse(q)
        vendor_ops.attention(
            q=q,
            k_cache=key,
            v_cache=value,
            out=chunk_attended,
            is_causal=False,
            context_seq_lod_cpu=part.query_lod_host,
            context_seq_lod_xpu=part.query_lod,
            context_kvlen_lod_cpu=chunk.kv_lod_host,
            context_kvlen_lod_xpu=chunk.kv_lod,
            alpha=self._alpha,
            softmax_lse=chunk_lse,
        )
        merged, merged_lse = torch.empty_like(q), torch.empty_like(lse)
        vendor_ops.attention_merge_stage(
            chunk_attended, _of_tokens(chunk_lse), attended, lse, merged, merged_lse
        )
        return merged, merged_lse

    def _expanded(
        self, latent: torch.Tensor, rope: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values ``[T, H, P + R]`` of latent rows, values padded to that width."""
        heads = self.kv_b_proj(latent)[0].view(-1, self.num_heads,
                                               self.qk_nope_head_dim + self.v_head_dim)  # fmt: skip
        key = heads.new_empty(heads.shape[0], self.num_heads, self.qk_head_dim)
        key[..., : self.qk_nope_head_dim] = heads[..., : self.qk_nope_head_dim]
        key[..., self.qk_nope_head_dim :] = rope.unsqueeze(1)
        value = torch.empty_like(key)
        value[..., : self.v_head_dim] = heads[..., self.qk_nope_head_dim :]
        value[..., self.v_head_dim :] = 0
        return key, value

    def _context_rows(self, tokens: int, dtype: torch.dtype) -> torch.Tensor:
        return workspace.take(((tokens, self.kv_lora_rank + self.qk_rope_head_dim), dtype))[0]

    @staticmethod
    def _lse(q: torch.Tensor) -> torch.Tensor:
        """float32 ``[H, T]``, filled as the contract's caller does (assumption
        ``mla-prefill-lse-written``)."""
        return q.new_full((q.shape[1], q.shape[0]), -math.inf, dtype=torch.float32)


def _of_tokens(lse: torch.Tensor) -> torch.Tensor:
    """``[H, T]``, as attention writes it, to ``[T, H]``, as the merge reads it."""
    return lse.T.contiguous().clamp_(min=EMPTY_LSE)
