# SPDX-License-Identifier: Apache-2.0
"""Gated delta net (GDN), as in Qwen3-Next: prefill, decode, states.

A state is a matrix ``S`` per value head, updated at each token by

    ``S = exp(g) S;  S = S + beta (v - S k) k^T;  o = S (scale q)``

with the log decay ``g`` of :func:`gdn_gating`. Prefill computes the same 64 tokens at a time. One
packed batch ``[1, T, ..]`` of sequences; ``HV`` value heads, of which ``HV / H`` share a key head.
Source: Gated DeltaNet, arXiv:2412.06464; contract section 8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract.limits import CHUNK_TOKENS
from vllm_kunlun.ops.torch_ops.registration import custom_op

__all__ = [
    "ChunkPlan",
    "chunk_gated_delta_rule",
    "gather_states",
    "gdn_gating",
    "plan_chunks",
    "recurrent_gated_delta_rule_",
    "scatter_states_",
]

L2_EPS = 1e-6


class ChunkPlan(NamedTuple):
    """How a step's sequences fall into chunks; made once a step, read by every layer."""

    indices: Tensor
    """int32 ``[NT, 2]``: (sequence, chunk in it) of each chunk"""
    offsets: Tensor
    """int32 ``[N + 1]``: chunks before each sequence"""


def plan_chunks(cu_seqlens_cpu: Tensor, device: torch.device) -> ChunkPlan:
    """The plan, on ``device``, of sequences that ``cu_seqlens_cpu`` delimits.

    Shapes: cu_seqlens_cpu int32 ``[N + 1]``, on the host.
    """
    counts = cu_seqlens_cpu.diff().add_(CHUNK_TOKENS - 1).div_(CHUNK_TOKENS, rounding_mode="floor")
    offsets = torch.zeros_like(cu_seqlens_cpu)
    torch.cumsum(counts, 0, dtype=torch.int32, out=offsets[1:])
    sequence = torch.repeat_interleave(counts)
    inside = torch.arange(len(sequence)) - offsets[sequence]
    indices = torch.stack((sequence, inside), 1).to(torch.int32)
    return ChunkPlan(indices.to(device, non_blocking=True), offsets.to(device, non_blocking=True))


def _gating_fake(a: Tensor) -> Tensor:
    return torch.empty_like(a, dtype=torch.float32)


@custom_op(fake=_gating_fake)
def gdn_gating(A_log: Tensor, a: Tensor, dt_bias: Tensor) -> Tensor:
    """The log decay ``-exp(A_log) * softplus(a + dt_bias)``, float32 ``[T, HV]``.

    Shapes: A_log and dt_bias float32 ``[HV]``, a ``[T, HV]``.
    """
    return vendor_ops.fused_gdn_gating(A_log, a, dt_bias)


def _chunk_fake(v: Tensor, initial_state: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(v), torch.empty_like(initial_state, dtype=torch.float32)


@custom_op(fake=_chunk_fake)
def chunk_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor,
    cu_seqlens: Tensor,
    chunk_indices: Tensor,
    chunk_offsets: Tensor,
    scale: float,
    normalise: bool,
) -> tuple[Tensor, Tensor]:
    """Prefill: the outputs, and the states after each sequence's last token in float32.

    With ``normalise``, q and k are first divided by their length.

    Shapes: q and k ``[1, T, H, K]``, v ``[1, T, HV, V]``, g float32 and beta ``[1, T, HV]``,
    initial_state ``[N, HV, K, V]``, cu_seqlens int32 ``[N + 1]``, the chunks of
    :func:`plan_chunks` -> o ``[1, T, HV, V]``, final states ``[N, HV, K, V]``.
    """
    if normalise:
        q, k = _l2_norm(q), _l2_norm(k)
    chunks = {"cu_seqlens": cu_seqlens, "chunk_indices": chunk_indices}
    g = vendor_ops.chunk_local_cumsum(g, **chunks)
    A = vendor_ops.chunk_scaled_dot_kkt_fwd(k, beta, g, cu_seqlens, chunk_indices)
    vendor_ops.solve_tril_ns(A, cu_seqlens, chunk_indices)
    w, u = vendor_ops.recompute_w_u_fwd(k=k, v=v, beta=beta, A=A, g_cumsum=g, **chunks)
    h, v_new, final_state = vendor_ops.chunk_gated_delta_rule_fwd_h(
        k, u, w, g, initial_state, cu_seqlens, chunk_indices, chunk_offsets
    )
    output = vendor_ops.chunk_fwd_o(q=q, k=k, v=v_new, h=h, g=g, scale=scale, **chunks)
    return output, final_state


def _recurrent_fake(v: Tensor) -> Tensor:
    return torch.empty_like(v)


@custom_op(mutates_args=("states",), fake=_recurrent_fake)
def recurrent_gated_delta_rule_(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    states: Tensor,
    cu_seqlens: Tensor,
    state_indices: Tensor,
    num_accepted_tokens: Tensor | None,
    scale: float,
    normalise: bool,
) -> Tensor:
    """Decode: the outputs; the states are read and written in place.

    Shapes: as :func:`chunk_gated_delta_rule`, but states ``[blocks, HV, V, K]`` (transposed) with
    int32 state_indices ``[N]``, or ``[N, S + 1]`` and num_accepted_tokens ``[N]`` where each token
    keeps a state of its own (speculative decoding). A negative index is skipped.
    """
    output, _ = vendor_ops.fused_recurrent_gated_delta_rule_fwdv2(
        q,
        k,
        v,
        g,
        beta,
        scale,
        states,
        cu_seqlens=cu_seqlens,
        h0_indices=state_indices,
        num_accepted_tokens=num_accepted_tokens,
        use_qk_l2norm_in_kernel=normalise,
    )
    return output


def gather_states(states: Tensor, indices: Tensor, known: Tensor) -> Tensor:
    """States of the pool as prefill takes them: ``[N, HV, K, V]``, zeros where not ``known``.

    Shapes: states ``[blocks, HV, V, K]``, indices and known (0 or 1) int32 ``[N]``.
    """
    chosen = states.index_select(0, indices).transpose(-1, -2)
    # A block that was never written may hold NaN, which no product makes 0.
    return chosen.where(known.view(-1, 1, 1, 1) != 0, 0.0).contiguous()


def scatter_states_(states: Tensor, indices: Tensor, new: Tensor) -> None:
    """In place: put prefill's final states into rows ``indices`` of the pool.

    Shapes: states ``[blocks, HV, V, K]`` (written), indices int32 ``[N]``, new ``[N, HV, K, V]``.
    Source: contract section 2, ``kunlun_ops.reshape_and_cache_flash``.
    """
    rows = new.transpose(-1, -2).to(states.dtype).flatten(1, 2).contiguous()  # [N, HV V, K]
    # The vendor's cache write with one slot a page is a scatter that honours the pool's stride.
    pages = states.flatten(1, 2).unsqueeze(1)
    vendor_ops.reshape_and_cache_flash(rows, rows, pages, pages, indices, BLHD_LAYOUT=True)


def _l2_norm(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    vendor_ops.l2norm(x, out, L2_EPS)
    return out
