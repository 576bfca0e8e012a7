# SPDX-License-Identifier: Apache-2.0
"""A latent attention layer whose backend does all of a step, whichever vLLM calls it.

Until 0.15 the layer calls ``forward`` of its implementation with the whole step. Since 0.16 it
writes the cache and does the absorbed products itself, and calls its implementation for the parts
in between; two of its methods are replaced there, by the ledger, and the implementation is called
as before. In 0.33 the cache is written by a method of its own, which is replaced by nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NoReturn

import torch
from vllm.v1.attention.backend import AttentionMetadata, MLAAttentionImpl

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = [
    "LatentAttentionImpl",
    "forward_impl",
    "process_weights_after_loading",
    "update_kv_cache",
]


class LatentAttentionImpl(MLAAttentionImpl[AttentionMetadata]):
    """The base of our implementations of latent attention."""

    @abstractmethod
    def forward(
        self,
        layer: Any,
        q: torch.Tensor,
        k_c_normed: torch.Tensor,
        k_pe: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: Any,
        output: torch.Tensor | None = None,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Write the step's rows into the cache, and fill ``output`` with its attention.

        Shapes: q ``[T, H, P + R]``, k_c_normed ``[T, L]``, k_pe ``[T, 1, R]``, kv_cache
        ``[blocks, block size, L + R]``, output ``[T, H V]``.
        """

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        """Prepare what :meth:`forward` multiplies with; nothing, where it needs nothing."""

    def forward_mha(self, *_: Any, **__: Any) -> NoReturn:
        """Raises: NotImplementedError: always. :meth:`forward` does the prompts of a step, too."""
        raise NotImplementedError("call forward, which does all of a step")

    def forward_mqa(self, *_: Any, **__: Any) -> NoReturn:
        """Raises: NotImplementedError: always, as :meth:`forward_mha`."""
        raise NotImplementedError("call forward, which does all of a step")


def forward_impl(
    self: Any,
    q: torch.Tensor,
    k_c_normed: torch.Tensor,
    k_pe: torch.Tensor,
    kv_cache: torch.Tensor,
    attn_metadata: Any,
    output: torch.Tensor | None = None,
    output_scale: torch.Tensor | None = None,
    output_block_scale: torch.Tensor | None = None,
    **unfused: Any,
) -> torch.Tensor:
    """In place of ``MLAAttention.forward_impl``: :meth:`LatentAttentionImpl.forward`.

    Args:
        unfused: of 0.33, the form of a quantised output and queries of other ranks; None here.

    Shapes: as there.

    Raises: UnsupportedError: one of ``unfused`` is given.
    """
    if asked := [name for name, value in unfused.items() if value is not None]:
        raise UnsupportedError(
            f"latent attention with {', '.join(asked)} is not implemented: leave fusions and "
            "context parallelism off."
        )
    implementation: LatentAttentionImpl = self.impl
    return implementation.forward(
        self,
        q,
        k_c_normed,
        k_pe,
        kv_cache,
        attn_metadata,
        output,
        output_scale,
        output_block_scale,
    )


def update_kv_cache(_self: Any, *_: Any, **__: Any) -> None:
    """In place of 0.33's ``MLAAttention.update_kv_cache``: the step's rows are written later."""


def process_weights_after_loading(self: Any, act_dtype: torch.dtype) -> None:
    """In place of ``MLAAttention.process_weights_after_loading``: that of its backend."""
    self.impl.process_weights_after_loading(act_dtype)
