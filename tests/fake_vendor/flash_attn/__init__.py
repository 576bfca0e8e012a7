# SPDX-License-Identifier: Apache-2.0
"""Stands in for the vendor's ``flash_attn``: torch's attention answers the two functions named."""

from __future__ import annotations

import torch
from support.vendor_calls import recorded
from torch.nn.functional import scaled_dot_product_attention


def _dense(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, softmax_scale: float | None = None
) -> torch.Tensor:
    heads_first = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return scaled_dot_product_attention(*heads_first, scale=softmax_scale).transpose(1, 2)


def _packed(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    causal: bool = False,
) -> torch.Tensor:
    lengths = cu_seqlens_q.diff().tolist(), cu_seqlens_k.diff().tolist()
    parts = zip(q.split(lengths[0]), k.split(lengths[1]), v.split(lengths[1]), strict=True)
    return torch.cat(
        [
            scaled_dot_product_attention(
                *(part.transpose(0, 1) for part in each), dropout_p=dropout_p, is_causal=causal
            ).transpose(0, 1)
            for each in parts
        ]
    )


flash_attn_func = recorded("flash_attn.flash_attn_func", _dense)
flash_attn_varlen_func = recorded("flash_attn.flash_attn_varlen_func", _packed)
