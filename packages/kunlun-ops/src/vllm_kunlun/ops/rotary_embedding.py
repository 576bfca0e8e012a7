# SPDX-License-Identifier: Apache-2.0
"""The manual's import path of the fused split, head norm and rotation."""

from __future__ import annotations

import torch

from vllm_kunlun.ops.torch_ops import rotary
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["Split_Norm_Rope"]

FUSED_EPS = 1e-6
"""The vendor's function takes no epsilon; this is the one inside."""


def Split_Norm_Rope(
    qkv: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    q_norm_weight: torch.Tensor,
    k_norm_weight: torch.Tensor,
    positions: torch.Tensor,
    head_num: int,
    kv_head_num: int,
    head_dim: int,
    rotary_dim: int | None = None,
    eps: float = FUSED_EPS,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value of a packed projection, heads normalised and rotated (neox).

    ``query = rope(rms_norm(q_head) * w_q)``, the same for key; value is copied.

    Shapes:
        qkv ``[T, (H + 2 KVH) D]``; positions int64 ``[T]``; weights ``[D]``;
        cos_sin_cache ``[max_position, rotary_dim]``.
        Returns ``[T, H D]``, ``[T, KVH D]``, ``[T, KVH D]``.

    Raises:
        UnsupportedError: ``eps`` is not the function's own; use the separate layers then.

    Source: contract section 4, ``kunlun_ops.split_norm_rope_neox``.
    """
    if eps != FUSED_EPS:
        raise UnsupportedError(
            f"eps={eps}: the fused function normalises with {FUSED_EPS}. Use RMSNorm and get_rope."
        )
    return rotary.split_norm_rope(
        qkv.contiguous(),
        cos_sin_cache.to(qkv.dtype),
        q_norm_weight,
        k_norm_weight,
        positions,
        head_num,
        kv_head_num,
        head_dim,
        head_dim if rotary_dim is None else rotary_dim,
    )
