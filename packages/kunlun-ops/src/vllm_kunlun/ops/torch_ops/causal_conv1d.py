# SPDX-License-Identifier: Apache-2.0
"""Depthwise causal convolution with SiLU, in front of the gated delta rule.

    ``out_t = silu(sum_i weight[:, i] x_{t - width + 1 + i} + bias)``

The last ``width - 1`` inputs of each request are kept in the first rows of its state, channels
last. Source: contract section 8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.registration import custom_op

__all__ = [
    "DraftPlan",
    "causal_conv1d_",
    "causal_conv1d_drafts_",
    "causal_conv1d_update_",
    "plan_drafts",
]


def _like_x(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@custom_op(mutates_args=("states",), fake=_like_x)
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
    Source: contract section 8, ``kunlun_ops.causal_conv1d_fn``.
    """
    out = torch.empty_like(x)
    vendor_ops.causal_conv1d_fn(
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


@custom_op(mutates_args=("states",), fake=_like_x)
def causal_conv1d_update_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    states: Tensor,
    state_indices_cpu: Tensor,
    state_indices: Tensor,
) -> Tensor:
    """One token of each request, always with a past; else as :func:`causal_conv1d_`.

    Shapes: x ``[B, dim]``, weight ``[dim, width]``, bias ``[dim]``, states
    ``[blocks, state_len, dim]`` (written), state_indices int32 ``[B]`` with a host copy ->
    ``[B, dim]``.
    Source: contract section 8, ``kunlun_ops.causal_conv1d_update``.
    """
    out = torch.empty_like(x)
    vendor_ops.causal_conv1d_update(
        x.unsqueeze(1),
        weight,
        out.unsqueeze(1),
        states,
        bias,
        conv_state_indices_cpu=state_indices_cpu,
        conv_state_indices_xpu=state_indices,
    )
    return out


class DraftPlan(NamedTuple):
    """Where the tokens of requests of up to ``S + 1`` tokens lie; made once a step."""

    rows: Tensor
    """int64 ``[B, S + 1]``: each request's tokens, its last one repeated where it has fewer"""
    places: Tensor
    """int64 ``[T]``: each token in that table, flattened"""
    settled: Tensor
    """int64 ``[B]``: how many tokens are sure to stay, one of a draft, all of a prompt's"""


def plan_drafts(
    cu_seqlens_cpu: Tensor, drafted_cpu: Tensor, longest: int, device: torch.device
) -> DraftPlan:
    """The plan of requests that ``cu_seqlens_cpu`` delimits, none above ``longest`` tokens.

    Where ``drafted_cpu`` all tokens but the first are drafts.

    Shapes: cu_seqlens_cpu int32 ``[B + 1]`` and drafted_cpu bool ``[B]``, on the host.
    """
    start, step = cu_seqlens_cpu.long(), torch.arange(longest)
    lengths = start.diff()
    rows = torch.minimum(start[:-1].unsqueeze(1) + step, start[1:].unsqueeze(1) - 1)
    places = (step < lengths.unsqueeze(1)).flatten().nonzero().squeeze(1)
    settled = lengths.masked_fill(drafted_cpu, 1)
    rows, places, settled = (x.to(device, non_blocking=True) for x in (rows, places, settled))
    return DraftPlan(rows, places, settled)


def causal_conv1d_drafts_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    states: Tensor,
    state_indices: Tensor,
    num_accepted_tokens: Tensor,
    plan: DraftPlan,
) -> Tensor:
    """A token and its drafts of each request; in torch, as no function of the vendor does this.

    A state of ``width - 1 + S`` rows ends with the last step's drafts: the past of a request of
    which ``a`` tokens stayed begins at row ``a - 1``.

    Shapes: x ``[T, dim]``, weight ``[dim, width]``, bias ``[dim]``, states ``[blocks, state_len,
    dim]`` (written), int32 state_indices and num_accepted_tokens ``[B]``.
    """
    past = weight.shape[1] - 1
    old = states.index_select(0, state_indices)  # [B, past + S, dim]
    window = torch.cat((_rows(old, num_accepted_tokens - 1, past), x[plan.rows]), 1)
    # From the inputs before the first token that may go: [B, past + S, dim]
    states.index_copy_(0, state_indices.long(), _rows(window, plan.settled, old.shape[1]))
    # float32 accumulation: [B, S + 1, dim, width] . [dim, width]
    total = (window.unfold(1, past + 1, 1).float() * weight).sum(-1)
    if bias is not None:
        total += bias
    return F.silu(total).to(x.dtype).flatten(0, 1)[plan.places]


def _rows(x: Tensor, first: Tensor, count: int) -> Tensor:
    """``count`` rows of each ``x [B, rows, dim]`` from row ``first [B]``; the last one repeated."""
    rows = first.long().unsqueeze(1) + torch.arange(count, device=x.device)
    rows = rows.clamp_(max=x.shape[1] - 1).unsqueeze(-1)
    return x.gather(1, rows.expand(-1, -1, x.shape[2]))
