# SPDX-License-Identifier: Apache-2.0
"""Attention backends that keep no cache: each pass reads a request whole, by the formula."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from vllm.v1.attention.backend import AttentionImpl, AttentionType

from vllm_kunlun.cli.verify.own_class.formula import attend
from vllm_kunlun.ops.attention.backend import KunlunAttentionBackend
from vllm_kunlun.ops.attention.metadata import KunlunAttentionMetadata
from vllm_kunlun.ops.vllm_modules.latent_attention import LatentAttentionImpl
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["FormulaBackend", "LatentFormulaBackend", "backend_for"]


class FormulaBackend(KunlunAttentionBackend):
    """Dense attention. The metadata is ours: where each request begins and ends."""

    @staticmethod
    def get_impl_cls() -> Any:
        return _Dense

    @classmethod
    def supports_head_size(cls, head_size: int) -> bool:
        return True


class LatentFormulaBackend(FormulaBackend):
    """Latent attention (MLA), also with an indexer's choice of keys."""

    @staticmethod
    def get_impl_cls() -> Any:
        return _Latent

    @staticmethod
    def get_kv_cache_shape(
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_size: int,
        cache_dtype_str: str = "auto",
    ) -> tuple[int, ...]:
        """``(blocks, block_size, head_size)``, as vLLM's latent layers expect; nothing reads it."""
        return (num_blocks, block_size, head_size)


def backend_for(
    selected_backend: Any, attn_selector_config: Any, num_heads: int | None = None
) -> str:
    """The path of the backend for a layer, in the place of the platform's choice.

    Args:
        num_heads: of 0.33, which no choice here depends on.

    Raises:
        UnsupportedError: cross attention.
    """
    if attn_selector_config.attn_type == AttentionType.ENCODER_DECODER:
        raise UnsupportedError(
            "cross attention cannot be judged by vLLM's own class: name a checkpoint that "
            "transformers loads with --reference."
        )
    backend = LatentFormulaBackend if attn_selector_config.use_mla else FormulaBackend
    return f"{backend.__module__}.{backend.__qualname__}"


class _Dense(AttentionImpl[KunlunAttentionMetadata]):
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
    ) -> None:
        self.num_heads, self.head_size, self.scale = num_heads, head_size, scale
        self.num_kv_heads = num_kv_heads or num_heads
        self._causal = attn_type == AttentionType.DECODER
        self._window, self._cap, self._sinks = sliding_window, logits_soft_cap, sinks
        self._slopes = None if alibi_slopes is None else torch.tensor(alibi_slopes)
        self._shared = kv_sharing_target_layer_name

    def forward(
        self,
        layer: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: KunlunAttentionMetadata | None,
        output: torch.Tensor | None = None,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Shapes: query and output ``[T, H, D]``, key and value ``[T, G, D]``."""
        assert output is not None
        output.zero_()
        if attn_metadata is None:  # vLLM's profiling run
            return output
        if self._shared:
            key, value = _LATEST[self._shared]
        else:
            _LATEST[layer.layer_name] = key, value
        for rows in _requests(attn_metadata):
            output[rows] = attend(
                query[rows], key[rows], value[rows], scale=self.scale, causal=self._causal,
                window=self._window, soft_cap=self._cap, slopes=self._slopes, sinks=self._sinks,
            ).to(output.dtype)  # fmt: skip
        return output


class _Latent(LatentAttentionImpl):
    """Keys and values are what ``kv_b_proj`` makes of the latents: nothing is absorbed."""

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        kv_b_proj: Any,
        qk_nope_head_dim: int,
        indexer: Any = None,
        **_sizes: Any,
    ) -> None:
        self.num_heads, self.head_size, self.scale = num_heads, head_size, scale
        self._up, self._plain = kv_b_proj, qk_nope_head_dim
        self._chosen = None if indexer is None else indexer.topk_indices_buffer

    def forward(
        self,
        layer: Any,
        q: torch.Tensor,
        k_c_normed: torch.Tensor,
        k_pe: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: KunlunAttentionMetadata | None,
        output: torch.Tensor | None = None,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Shapes: queries ``[T, H, P + R]``, latents ``[T, L]``, k_pe ``[T, 1, R]``."""
        assert output is not None
        output.zero_()
        if attn_metadata is None:  # vLLM's profiling run
            return output
        for rows in _requests(attn_metadata):
            both = self._up(k_c_normed[rows])[0].unflatten(-1, (self.num_heads, -1))
            key, value = both[..., : self._plain], both[..., self._plain :]
            key = torch.cat([key, k_pe[rows].expand(-1, self.num_heads, -1)], -1)
            made = attend(
                q[rows], key, value, scale=self.scale,
                allowed=self._allowed(rows),
            )  # fmt: skip
            output[rows] = made.flatten(1).to(output.dtype)
        return output

    def _allowed(self, rows: slice) -> torch.Tensor | None:
        if self._chosen is None:
            return None
        count = rows.stop - rows.start
        chosen = self._chosen[rows].long()
        # One column more takes the -1 of those that have fewer keys than they may choose.
        allowed = torch.zeros(count, count + 1, dtype=torch.bool, device=chosen.device)
        allowed.scatter_(1, chosen.where(chosen >= 0, count), True)
        return allowed[:, :count]


_LATEST: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
"""Layer -> keys and values of this pass, for layers that use another's."""


def _requests(metadata: KunlunAttentionMetadata) -> Iterator[slice]:
    """Rows of each request; of attention in chunks, of each chunk."""
    part = metadata.whole_batch
    if part.has_context:
        raise RuntimeError("the judge was given a part of a request, and keeps no cache")
    bounds = part.query_lod_host.tolist()
    yield from map(slice, bounds, bounds[1:])
