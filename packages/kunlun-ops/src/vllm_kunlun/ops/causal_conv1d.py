# SPDX-License-Identifier: Apache-2.0
"""Depthwise causal convolution with SiLU in front of linear attention.

    ``out_t = silu(sum_i weight[:, i] x_{t - width + 1 + i} + bias)``

The last ``width - 1`` inputs of each request are kept in the first rows of its state, channels
last. Source: contract section 8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor
from vllm_kunlun.ops.registration import custom_op

__all__ = ["causal_conv1d_", "causal_conv1d_update_"]


def _packed_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    states: Tensor,
    cu_seqlens_cpu: Tensor,
    cu_seqlens: Tensor,
    state_indices_cpu: Tensor,
    state_indices: Tensor,
    known_cpu: Tensor,
    known: Tensor,
) -> Tensor:
    return torch.empty_like(x)


@custom_op(mutates_args=("states",), fake=_packed_fake)
def causal_conv1d_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    states: Tensor,
    cu_seqlens_cpu: Tensor,
    cu_seqlens: Tensor,
    state_indices_cpu: Tensor,
    state_indices: Tensor,
    known_cpu: Tensor,
    known: Tensor,
) -> Tensor:
    """Packed sequences; a state is read where ``known``, else the past is zeros, and then written.

    Shapes: x ``[T, dim]`` contiguous, weight ``[dim, width]``, bias ``[dim]``, states ``[blocks,
    state_len, dim]``; int32 with a host copy each: cu_seqlens ``[B + 1]``, state_indices and known
    (0 or 1) ``[B]``. A negative index is skipped and leaves its rows of the result undefined.
    """
    out = torch.empty_like(x)
    vendor.causal_conv1d_fn(
        x,
        out,
        weight,
        bias,
        states,
        cu_seqlens_cpu,
        cu_seqlens,
        cache_indices_cpu=state_indices_cpu,
        cache_indices_xpu=state_indices,
        has_initial_state_cpu=known_cpu,
        has_initial_state_xpu=known,
    )
    return out


def _update_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    states: Tensor,
    state_indices_cpu: Tensor,
    state_indices: Tensor,
) -> Tensor:
    return torch.empty_like(x)


@custom_op(mutates_args=("states",), fake=_update_fake)
def causal_conv1d_update_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    states: Tensor,
    state_indices_cpu: Tensor,
    state_indices: Tensor,
) -> Tensor:
    """One token of each request: x ``[B, dim]``, else as :func:`causal_conv1d_`."""
    out = torch.empty_like(x)
    vendor.causal_conv1d_update(
        x.unsqueeze(1),
        weight,
        out.unsqueeze(1),
        states,
        bias,
        conv_state_indices_cpu=state_indices_cpu,
        conv_state_indices_xpu=state_indices,
    )
    return out
