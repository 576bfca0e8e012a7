# SPDX-License-Identifier: Apache-2.0
"""One attention layer: write the cache, decode part, prefill part."""

from __future__ import annotations

import math
from typing import Any

import torch
from vllm.logger import init_logger
from vllm.v1.attention.backend import AttentionImpl, AttentionType

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.attention import soft_cap
from vllm_kunlun.ops.attention.cache_write import write_cache
from vllm_kunlun.ops.attention.metadata import Decode, KunlunAttentionMetadata, Prefill
from vllm_kunlun.ops.vllm_compat import cache_pages
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["KunlunAttentionImpl"]

logger = init_logger("vllm.kunlun.attention")

NO_WINDOW = -1


class KunlunAttentionImpl(AttentionImpl[KunlunAttentionMetadata]):
    """Dense attention of one layer on the vendor's functions.

    What goes where: decode (one uniform query length) to ``speculative_attention``; prefill to
    ``prefill_attention``, on this step's keys if they are all there are and on the cache
    otherwise. Alibi has no decode function, so every query of such a layer is a prefill on the
    cache. A soft cap has no function at all and runs in torch.

    Raises:
        UnsupportedError: the layer asks for what the backend does not know, or for a soft cap
            together with sinks or alibi.
    """

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        num_kv_heads: int | None = None,
        alibi_slopes: list[float] | None = None,
        sliding_window: int | None = None,
        kv_cache_dtype: str = "auto",
        logits_soft_cap: float | None = None,
        attn_type: str = AttentionType.DECODER,
        kv_sharing_target_layer_name: str | None = None,
        sinks: torch.Tensor | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise UnsupportedError(
                f"this model's attention asks for {', '.join(sorted(unknown))}, which the Kunlun "
                "attention backend does not implement."
            )
        if logits_soft_cap and (sinks is not None or alibi_slopes is not None):
            raise UnsupportedError("a soft cap together with sinks or alibi is not implemented.")
        self.num_heads = num_heads
        self.head_size = head_size
        self.scale = scale
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.sliding_window = sliding_window
        self.attn_type = attn_type
        self.logits_soft_cap = logits_soft_cap or None
        self.sinks = self._loaded_sinks = sinks
        self.owns_cache = kv_sharing_target_layer_name is None
        self.uses_cache = attn_type == AttentionType.DECODER
        self._alibi_slopes = (
            None if alibi_slopes is None else torch.tensor(alibi_slopes, dtype=torch.float32)
        )
        # prefill_attention multiplies by 1/sqrt(D) itself.
        self._alpha = scale * math.sqrt(head_size)
        if self.logits_soft_cap is not None:
            logger.warning_once(
                "This model caps its attention scores, which no function of the vendor does: "
                "attention runs in plain torch and is slower."
            )

    @property
    def decodes_by_vendor_functions(self) -> bool:
        """Whether a step of decodes is a cache write and ``speculative_attention``, no more."""
        return self.uses_cache and self._alibi_slopes is None and self.logits_soft_cap is None

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        """Per-head constants on the device in float32; after a reload, where they lie."""
        if self._loaded_sinks is not None:
            sinks = self._loaded_sinks.detach().to(torch.float32).contiguous()
            if self.sinks is self._loaded_sinks:
                self.sinks = sinks
            elif self.sinks is not None:
                self.sinks.copy_(sinks)
        if self._alibi_slopes is not None:
            from vllm.platforms import current_platform

            self._alibi_slopes = self._alibi_slopes.to(current_platform.device_type)

    def forward(
        self,
        layer: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor | None,
        value: torch.Tensor | None,
        kv_cache: torch.Tensor,
        attn_metadata: KunlunAttentionMetadata | None,
        output: torch.Tensor | None = None,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Fill ``output`` with attention of ``query`` over cache and new tokens.

        Shapes: query and output ``[T, H, D]``, key and value ``[T, KVH, D]`` (``T`` may be padded
        beyond the step's tokens), kv_cache as of :func:`cache_pages.split`.
        Raises: UnsupportedError: a quantised output, or a soft cap in an encoder.
        """
        assert output is not None
        if output_scale is not None or output_block_scale is not None:
            raise UnsupportedError(
                "attention with a quantised output is not implemented: leave pass_config's "
                "fuse_attn_quant off."
            )
        if attn_metadata is None:  # vLLM's profiling run
            return output.zero_()
        if not self.uses_cache:
            self._encode(query, key, value, attn_metadata, output)
            return output
        key_cache, value_cache = cache_pages.split(kv_cache, self.head_size)
        tokens = attn_metadata.num_actual_tokens
        if self.owns_cache and key is not None and value is not None:
            # Once for the cache and the prefill: value is often a part of a packed projection.
            key, value = key[:tokens].contiguous(), value[:tokens].contiguous()
            write_cache(
                key,
                value,
                key_cache,
                value_cache,
                attn_metadata.slot_mapping[:tokens],
            )
        if self._alibi_slopes is not None:
            self._prefill_on_cache(query, key_cache, value_cache, attn_metadata.whole_batch, output)
            return output
        if (decode := attn_metadata.decode) is not None:
            self._decode(query, key_cache, value_cache, decode, output)
        if (prefill := attn_metadata.prefill) is not None:
            if prefill.has_context or not self.owns_cache or self.logits_soft_cap is not None:
                self._prefill_on_cache(query, key_cache, value_cache, prefill, output)
            else:
                self._prefill_on_tokens(query, key, value, prefill, output, causal=True)
        return output

    def _encode(
        self,
        query: torch.Tensor,
        key: torch.Tensor | None,
        value: torch.Tensor | None,
        metadata: KunlunAttentionMetadata,
        output: torch.Tensor,
    ) -> None:
        if self.logits_soft_cap is not None:
            raise UnsupportedError("a soft cap in an encoder is not implemented.")
        self._prefill_on_tokens(query, key, value, metadata.whole_batch, output, causal=False)

    def _decode(
        self,
        query: torch.Tensor,
        key_cache: torch.Tensor,
        value_cache: torch.Tensor,
        part: Decode,
        output: torch.Tensor,
    ) -> None:
        block_table = _block_table(part, key_cache)
        query, output = query[: part.num_tokens], output[: part.num_tokens]
        if self.logits_soft_cap is not None:
            soft_cap.attend(
                query,
                key_cache,
                value_cache,
                output,
                part.block_table,
                query_lens=torch.full_like(part.seq_lens, part.query_len),
                seq_lens=part.seq_lens,
                max_query_len=part.query_len,
                max_seq_len=int(part.seq_lens_host.max()),
                scale=self.scale,
                soft_cap=self.logits_soft_cap,
                window=self.sliding_window,
            )
            return
        heads, size = query.shape[1:]
        if part.query_len == 1:
            query = query.unsqueeze(0)
        else:
            spec_shape = (part.num_requests, part.query_len, heads, size)
            query, output = query.view(spec_shape), output.view(spec_shape)
        vendor_ops.speculative_attention(
            out=output,
            q=query.contiguous(),
            k_cache=key_cache,
            v_cache=value_cache,
            context_lens_cpu=part.seq_lens_host,
            context_lens_xpu=part.seq_lens,
            batch_num=part.num_requests,
            qlen=part.query_len,
            max_context_len=block_table.shape[1] * key_cache.shape[2],
            head_num=heads,
            head_dim=size,
            scale=self.scale,
            kv_head_num=self.num_kv_heads,
            block_size=key_cache.shape[2],
            max_num_blocks_per_seq=block_table.shape[1],
            max_window_size=self.sliding_window or NO_WINDOW,
            block_tables=block_table,
            sink=self.sinks,
        )

    def _prefill_on_tokens(
        self,
        query: torch.Tensor,
        key: torch.Tensor | None,
        value: torch.Tensor | None,
        part: Prefill,
        output: torch.Tensor,
        *,
        causal: bool,
    ) -> None:
        assert key is not None and value is not None
        rows = slice(part.first_token, part.first_token + part.num_tokens)
        window = self.sliding_window or NO_WINDOW
        vendor_ops.prefill_attention(
            q=query[rows].contiguous(),
            k=key[rows].contiguous(),
            v=value[rows].contiguous(),
            out=output[rows],
            is_causal=causal,
            alpha=self._alpha,
            context_qlen_lod_cpu=part.query_lod_host,
            context_qlen_lod_xpu=part.query_lod,
            alibi_slopes=self._alibi_slopes,
            softmax_lse=None,
            swa_left=window,
            # A window is symmetric in an encoder; to the right it counts distance alone.
            swa_right=NO_WINDOW if window == NO_WINDOW else 0 if causal else window - 1,
            sink=self.sinks,
        )

    def _prefill_on_cache(
        self,
        query: torch.Tensor,
        key_cache: torch.Tensor,
        value_cache: torch.Tensor,
        part: Prefill,
        output: torch.Tensor,
    ) -> None:
        rows = slice(part.first_token, part.first_token + part.num_tokens)
        query, output = query[rows], output[rows]
        if self.logits_soft_cap is not None:
            soft_cap.attend(
                query,
                key_cache,
                value_cache,
                output,
                part.block_table,
                query_lens=part.query_lod.diff(),
                seq_lens=part.kv_lod.diff(),
                max_query_len=int(part.query_lod_host.diff().max()),
                max_seq_len=int(part.kv_lod_host.diff().max()),
                scale=self.scale,
                soft_cap=self.logits_soft_cap,
                window=self.sliding_window,
            )
            return
        window = self.sliding_window or NO_WINDOW
        vendor_ops.prefill_attention(
            q=query.contiguous(),
            k=key_cache,
            v=value_cache,
            out=output,
            is_causal=True,
            is_prefix_cache=True,
            alpha=self._alpha,
            block_table=_block_table(part, key_cache),
            context_qlen_lod_cpu=part.query_lod_host,
            context_qlen_lod_xpu=part.query_lod,
            context_kvlen_lod_cpu=part.kv_lod_host,
            context_kvlen_lod_xpu=part.kv_lod,
            alibi_slopes=self._alibi_slopes,
            softmax_lse=None,
            swa_left=window,
            swa_right=NO_WINDOW if window == NO_WINDOW else 0,
            sink=self.sinks,
        )


def _block_table(part: Decode | Prefill, key_cache: torch.Tensor) -> torch.Tensor:
    return part.block_table if key_cache.is_contiguous() else part.interleaved_block_table
