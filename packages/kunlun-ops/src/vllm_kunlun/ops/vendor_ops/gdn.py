# SPDX-License-Identifier: Apache-2.0
"""Gated delta rule: the vendor's functions, arguments passed as the contract says.

One packed batch ``[1, T, ..]`` of sequences that ``cu_seqlens`` delimits; ``HV`` value heads, of
which ``HV / H`` share a key head. Chunks are of 64 tokens and never span two sequences;
``chunk_indices`` int32 ``[NT, 2]`` names (sequence, chunk in it). The card takes q, k and v in 16
bits only. All raise VendorContractError (emulator) for an argument that the card would misread.
Source: contract section 8; the rule is arXiv:2412.06464.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.contract.limits import CHUNK_TOKENS
from vllm_kunlun.ops.vendor_ops.library import function

__all__ = [
    "chunk_fwd_o",
    "chunk_gated_delta_rule_fwd_h",
    "chunk_local_cumsum",
    "chunk_scaled_dot_kkt_fwd",
    "fused_gdn_gating",
    "fused_recurrent_gated_delta_rule_fwdv2",
    "recompute_w_u_fwd",
    "solve_tril_ns",
]


def fused_gdn_gating(A_log: Tensor, a: Tensor, dt_bias: Tensor) -> Tensor:
    """``g = -exp(A_log) * softplus(a + dt_bias)``, float32 ``[T, HV]``.

    Shapes: A_log and dt_bias float32 ``[HV]``, a ``[T, HV]``.
    """
    return function("kunlun_ops", "fused_gdn_gating")(A_log, a, dt_bias)


def fused_recurrent_gated_delta_rule_fwdv2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float,
    initial_state: Tensor,
    *,
    cu_seqlens: Tensor,
    h0_indices: Tensor,
    num_accepted_tokens: Tensor | None,
    use_qk_l2norm_in_kernel: bool,
) -> tuple[Tensor, Tensor]:
    """Token by token: ``S *= exp(g); d = (v - S k) * beta; S += d k^T; o = S (q * scale)``.

    States are rows ``[HV, V, K]`` of ``initial_state``, read and written in place: row
    ``h0_indices[n]``, or with ``num_accepted_tokens`` (speculative decoding) from row
    ``h0_indices[n, accepted - 1]``, and after token ``t`` into row ``h0_indices[n, t]``. A negative
    index is skipped.

    Shapes: q and k ``[1, T, H, K]``, v ``[1, T, HV, V]``, g float32 and beta ``[1, T, HV]``,
    initial_state ``[blocks, HV, V, K]``, int32 cu_seqlens ``[N + 1]``, h0_indices ``[N]`` or
    ``[N, S + 1]``, num_accepted_tokens ``[N]``.

    Returns:
        o ``[1, T, HV, V]`` and ``initial_state``.
    """
    return function("kunlun_ops", "fused_recurrent_gated_delta_rule_fwdv2")(
        q,
        k,
        v,
        g,
        beta,
        scale,
        initial_state,
        inplace_final_state=True,
        cu_seqlens=cu_seqlens,
        h0_indices=h0_indices,
        num_accepted_tokens=num_accepted_tokens,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        is_h0_transposed=True,
    )


def chunk_local_cumsum(g: Tensor, *, cu_seqlens: Tensor, chunk_indices: Tensor) -> Tensor:
    """Sums of ``g`` (float32 ``[1, T, HV]``) inside each chunk, up to and including each token."""
    return function("xspeedgate_ops", "chunk_local_cumsum")(
        g,
        chunk_size=CHUNK_TOKENS,
        reverse=False,
        cu_seqlens=cu_seqlens,
        chunk_indices=chunk_indices,
        head_first=False,
    )


def chunk_scaled_dot_kkt_fwd(
    k: Tensor, beta: Tensor, g: Tensor, cu_seqlens: Tensor, chunk_indices: Tensor
) -> Tensor:
    """``A[i, j] = beta_i (k_i . k_j) exp(g_i - g_j)`` for ``j < i`` in a chunk, else 0.

    Shapes: k ``[1, T, H, K]``, beta and g (summed) ``[1, T, HV]`` -> A ``[1, T, HV, 64]``.
    """
    return function("xspeedgate_ops", "chunk_scaled_dot_kkt_fwd")(
        k, beta, g, cu_seqlens, chunk_indices, CHUNK_TOKENS
    )


def solve_tril_ns(A: Tensor, cu_seqlens: Tensor, chunk_indices: Tensor) -> None:
    """In place, of each chunk: ``A = (I + A)^-1``."""
    function("xspeedgate_ops", "solve_tril_ns")(A, cu_seqlens, chunk_indices, CHUNK_TOKENS)


def recompute_w_u_fwd(
    *,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    A: Tensor,
    g_cumsum: Tensor,
    cu_seqlens: Tensor,
    chunk_indices: Tensor,
) -> tuple[Tensor, Tensor]:
    """``w = A (beta * exp(g) * k)`` and ``u = A (beta * v)``.

    Shapes: A ``[1, T, HV, 64]`` -> w ``[1, T, HV, K]``, u ``[1, T, HV, V]``.
    """
    return function("xspeedgate_ops", "recompute_w_u_fwd")(
        k=k,
        v=v,
        beta=beta,
        A=A,
        g_cumsum=g_cumsum,
        cu_seqlens=cu_seqlens,
        chunk_indices=chunk_indices,
        chunk_size=CHUNK_TOKENS,
    )


def chunk_gated_delta_rule_fwd_h(
    k: Tensor,
    u: Tensor,
    w: Tensor,
    g: Tensor,
    initial_state: Tensor,
    cu_seqlens: Tensor,
    chunk_indices: Tensor,
    chunk_offsets: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each chunk: keep ``h``; ``v_new = u - w h``; ``h = h exp(g_last) + k^T (v_new exp(g_last -
    g))``.

    Shapes: initial_state ``[N, HV, K, V]`` (not transposed), chunk_offsets int32 ``[N + 1]``, the
    chunks before each sequence.

    Returns:
        h ``[1, NT, HV, K, V]``, v_new ``[1, T, HV, V]``, the final states ``[N, HV, K, V]``.
    """
    return function("xspeedgate_ops", "chunk_gated_delta_rule_fwd_h")(
        k,
        u,
        w,
        g,
        initial_state,
        cu_seqlens,
        chunk_indices,
        chunk_offsets,
        CHUNK_TOKENS,
        True,
        True,
    )


def chunk_fwd_o(
    *,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    h: Tensor,
    g: Tensor,
    scale: float,
    cu_seqlens: Tensor,
    chunk_indices: Tensor,
) -> Tensor:
    """``o_i = scale * ((q_i h) exp(g_i) + sum_{j <= i} (q_i . k_j) exp(g_i - g_j) v_j)``.

    Shapes: v is ``v_new`` of :func:`chunk_gated_delta_rule_fwd_h`, h its states -> o
    ``[1, T, HV, V]``.
    """
    return function("xspeedgate_ops", "chunk_fwd_o")(
        q=q,
        k=k,
        v=v,
        h=h,
        g=g,
        scale=scale,
        cu_seqlens=cu_seqlens,
        chunk_indices=chunk_indices,
        chunk_size=CHUNK_TOKENS,
    )
