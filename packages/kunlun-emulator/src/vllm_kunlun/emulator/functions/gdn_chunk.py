# SPDX-License-Identifier: Apache-2.0
"""Gated delta rule by chunks of 64 tokens: the steps of its prefill, one function each.

A chunk never spans two sequences, and the last one of a sequence may be shorter. ``g`` is, from the
second step on, the sum of the log decay inside the chunk up to and including a token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from vllm_kunlun.emulator.checks import (
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.functions.gdn import check_packed
from vllm_kunlun.emulator.functions.step_cache import StepCache
from vllm_kunlun.ops.contract.limits import CHUNK_TOKENS as CHUNK

__all__ = [
    "chunk_fwd_o",
    "chunk_gated_delta_rule_fwd_h",
    "chunk_local_cumsum",
    "chunk_scaled_dot_kkt_fwd",
    "recompute_w_u_fwd",
    "solve_tril_ns",
]


class _Chunks(NamedTuple):
    """The place of each token when every chunk is filled up to 64."""

    total: int
    place: torch.Tensor
    """``[T]`` -> row of ``[total * 64]``"""
    last: torch.Tensor
    """``[total]``: place inside the chunk of its last token"""
    offsets: torch.Tensor
    """``[N + 1]``: first chunk of each sequence, int64"""

    def fill(self, x: torch.Tensor) -> torch.Tensor:
        """``[1, T, heads, ..]`` as float32 ``[total, heads, 64, ..]``, zeros where no token is."""
        filled = x.new_zeros(self.total * CHUNK, *x.shape[2:], dtype=torch.float32)
        filled[self.place] = x[0].float()
        return filled.unflatten(0, (self.total, CHUNK)).transpose(1, 2).contiguous()

    def take(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Back to ``[1, T, heads, ..]``."""
        return x.transpose(1, 2).flatten(0, 1)[self.place].to(dtype).unsqueeze(0)


_plans: StepCache[_Chunks] = StepCache()


def chunk_local_cumsum(
    g: torch.Tensor,
    /,
    *,
    chunk_size: int = CHUNK,
    reverse: bool = False,
    cu_seqlens: torch.Tensor,
    chunk_indices: torch.Tensor,
    head_first: bool = False,
) -> torch.Tensor:
    """Sums of ``g`` inside each chunk, up to and including each token.

    Shapes: g float32 ``[1, T, HV]`` -> the same.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``xspeedgate_ops.chunk_local_cumsum``.
    """
    name = "chunk_local_cumsum"
    check_tensor(name, "g", g, (torch.float32,), 3)
    for argument, given in (("reverse", reverse), ("head_first", head_first)):
        require(given is False, name, argument, "False", given)
    chunks = _chunks(name, g.shape[1], cu_seqlens, chunk_indices, chunk_size)
    return chunks.take(chunks.fill(g).cumsum(2), torch.float32)


def chunk_scaled_dot_kkt_fwd(
    k: torch.Tensor,
    beta: torch.Tensor,
    g: torch.Tensor,
    cu_seqlens: torch.Tensor,
    chunk_indices: torch.Tensor,
    chunk_size: int,
    /,
) -> torch.Tensor:
    """``A[i, j] = beta_i (k_i . k_j) exp(g_i - g_j)`` for ``j < i``, else 0.

    Shapes: k ``[1, T, H, K]``, beta and g ``[1, T, HV]`` -> float32 ``[1, T, HV, 64]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``xspeedgate_ops.chunk_scaled_dot_kkt_fwd``.
    """
    name = "chunk_scaled_dot_kkt_fwd"
    check_tensor(name, "k", k, dims=4)
    check_tensor(name, "g", g, (torch.float32,), 3)
    # Without a v, g says how many value heads there are.
    check_packed(name, None, k, k.new_empty(1, k.shape[1], g.shape[2], 0), g, beta)
    chunks = _chunks(name, k.shape[1], cu_seqlens, chunk_indices, chunk_size)
    keys = chunks.fill(k)  # [n, H, 64, K]
    product = _per_value_head(keys @ keys.mT, g.shape[2])
    product.mul_(_decay(chunks.fill(g), diagonal=-1)).mul_(chunks.fill(beta).unsqueeze(-1))
    return chunks.take(product, torch.float32)


def solve_tril_ns(
    A: torch.Tensor,
    cu_seqlens: torch.Tensor,
    chunk_indices: torch.Tensor,
    chunk_size: int,
    /,
) -> None:
    """``A = (I + A)^-1`` of each chunk, in place; ``A`` is strictly lower triangular.

    Shapes: A ``[1, T, HV, 64]`` (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``xspeedgate_ops.solve_tril_ns``.
    """
    name = "solve_tril_ns"
    check_tensor(name, "A", A, dims=4)
    require(A.shape[3] == chunk_size, name, "A", f"of {chunk_size} columns", A.shape[3])
    chunks = _chunks(name, A.shape[1], cu_seqlens, chunk_indices, chunk_size)
    inverse = torch.linalg.solve_triangular(
        chunks.fill(A), torch.eye(CHUNK), upper=False, unitriangular=True
    )
    A.copy_(chunks.take(inverse, A.dtype))


def recompute_w_u_fwd(
    *,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    A: torch.Tensor,
    g_cumsum: torch.Tensor,
    cu_seqlens: torch.Tensor,
    chunk_indices: torch.Tensor,
    chunk_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``w = A (beta * exp(g) * k)``, ``u = A (beta * v)``.

    Shapes: k ``[1, T, H, K]``, v ``[1, T, HV, V]``, beta and g_cumsum ``[1, T, HV]``, A
    ``[1, T, HV, 64]`` -> w ``[1, T, HV, K]``, u ``[1, T, HV, V]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``xspeedgate_ops.recompute_w_u_fwd``.
    """
    name = "recompute_w_u_fwd"
    check_tensor(name, "g_cumsum", g_cumsum, (torch.float32,), 3)
    _, value_heads, _, _ = check_packed(name, None, k, v, g_cumsum, beta)
    check_tensor(name, "A", A, dims=4)
    check_shape(name, "A", A, (1, k.shape[1], value_heads, chunk_size))
    chunks = _chunks(name, k.shape[1], cu_seqlens, chunk_indices, chunk_size)
    inverse, rate = chunks.fill(A), chunks.fill(beta).unsqueeze(-1)
    growth = chunks.fill(g_cumsum).exp_().unsqueeze(-1)
    w = inverse @ (_per_value_head(chunks.fill(k), value_heads) * (rate * growth))
    u = inverse @ (chunks.fill(v) * rate)
    return chunks.take(w, k.dtype), chunks.take(u, v.dtype)


def chunk_gated_delta_rule_fwd_h(
    k: torch.Tensor,
    u: torch.Tensor,
    w: torch.Tensor,
    g: torch.Tensor,
    initial_state: torch.Tensor,
    cu_seqlens: torch.Tensor,
    chunk_indices: torch.Tensor,
    chunk_offsets: torch.Tensor,
    chunk_size: int,
    output_final_state: bool,
    save_new_value: bool,
    /,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The state before each chunk, ``v_new = u - w h``, and the state at the end (float32).

    ``h = h * exp(g_last) + k^T (v_new * exp(g_last - g))`` from chunk to chunk.

    Shapes: k ``[1, T, H, K]``, u ``[1, T, HV, V]``, w ``[1, T, HV, K]``, g ``[1, T, HV]``,
    initial_state ``[N, HV, K, V]``, chunk_offsets ``[N + 1]`` -> ``[1, NT, HV, K, V]``,
    ``[1, T, HV, V]``, float32 ``[N, HV, K, V]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``xspeedgate_ops.chunk_gated_delta_rule_fwd_h``.
    """
    name = "chunk_gated_delta_rule_fwd_h"
    require(save_new_value is True, name, "save_new_value", "True", save_new_value)
    _, value_heads, key_size, value_size = check_packed(name, None, k, u, g, None)
    check_tensor(name, "w", w, (k.dtype,), 4)
    check_shape(name, "w", w, (1, k.shape[1], value_heads, key_size))
    check_tensor(name, "initial_state", initial_state, dims=4)
    count = cu_seqlens.shape[0] - 1
    check_shape(name, "initial_state", initial_state, (count, value_heads, key_size, value_size))
    chunks = _chunks(name, k.shape[1], cu_seqlens, chunk_indices, chunk_size)
    check_tensor(name, "chunk_offsets", chunk_offsets, (cu_seqlens.dtype,), 1)
    require(torch.equal(chunk_offsets.long(), chunks.offsets), name, "chunk_offsets",
            f"the chunks before each sequence ({chunks.offsets.tolist()})",
            chunk_offsets.tolist())  # fmt: skip
    u_of, w_of, g_of = chunks.fill(u), chunks.fill(w), chunks.fill(g)
    g_last = g_of.gather(2, chunks.last.view(-1, 1, 1).expand(-1, value_heads, 1))
    left = (g_last - g_of).exp_().unsqueeze(-1)  # decay from a token to the chunk's end
    kept = _per_value_head(chunks.fill(k), value_heads).mT  # [n, HV, K, 64]
    total = g_last.exp_().unsqueeze(-1)

    before = k.new_empty(chunks.total, value_heads, key_size, value_size, dtype=torch.float32)
    states, v_new = initial_state.to(torch.float32, copy=True), u_of
    chunks_of = chunks.offsets.diff()
    for c in range(int(chunks_of.max()) if count else 0):
        running = (chunks_of > c).nonzero().squeeze(1)
        now = chunks.offsets[running] + c
        state = states[running]
        before[now] = state
        value = v_new[now].sub_(w_of[now] @ state)
        v_new[now] = value
        states[running] = torch.mul(state, total[now]).add_(kept[now] @ value.mul_(left[now]))
    final = states if output_final_state else None
    return before.to(k.dtype).unsqueeze(0), chunks.take(v_new, u.dtype), final


def chunk_fwd_o(
    *,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    h: torch.Tensor,
    g: torch.Tensor,
    scale: float,
    cu_seqlens: torch.Tensor,
    chunk_indices: torch.Tensor,
    chunk_size: int,
) -> torch.Tensor:
    """``o_i = scale * ((q_i h) exp(g_i) + sum_{j <= i} (q_i . k_j) exp(g_i - g_j) v_j)``.

    ``v`` is the new value of :func:`chunk_gated_delta_rule_fwd_h`.

    Shapes: q and k ``[1, T, H, K]``, v ``[1, T, HV, V]``, h ``[1, NT, HV, K, V]``, g ``[1, T, HV]``
    -> ``[1, T, HV, V]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``xspeedgate_ops.chunk_fwd_o``.
    """
    name = "chunk_fwd_o"
    _, value_heads, key_size, value_size = check_packed(name, q, k, v, g, None)
    chunks = _chunks(name, k.shape[1], cu_seqlens, chunk_indices, chunk_size)
    check_tensor(name, "h", h, (k.dtype,), 5)
    check_shape(name, "h", h, (1, chunks.total, value_heads, key_size, value_size))
    queries, keys, decay = chunks.fill(q), chunks.fill(k), chunks.fill(g)
    weights = _per_value_head(queries @ keys.mT, value_heads).mul_(_decay(decay, diagonal=0))
    inside = weights @ chunks.fill(v)
    across = _per_value_head(queries, value_heads) @ h[0].float()
    output = across.mul_(decay.exp_().unsqueeze(-1)).add_(inside).mul_(scale)
    return chunks.take(output, v.dtype)


def _per_value_head(x: torch.Tensor, value_heads: int) -> torch.Tensor:
    """``[n, H, ..]`` as ``[n, HV, ..]``: value head ``i`` has key head ``i // (HV / H)``."""
    return x.repeat_interleave(value_heads // x.shape[1], 1)


def _decay(g: torch.Tensor, diagonal: int) -> torch.Tensor:
    """``exp(g_i - g_j)`` for ``j`` up to ``i + diagonal``, else 0: ``[n, HV, 64, 64]``."""
    difference = g.unsqueeze(-1) - g.unsqueeze(-2)
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool).triu_(diagonal + 1)
    return difference.masked_fill_(later, -torch.inf).exp_()


def _chunks(
    function: str,
    tokens: int,
    cu_seqlens: torch.Tensor,
    chunk_indices: torch.Tensor,
    chunk_size: int,
) -> _Chunks:
    require(chunk_size == CHUNK, function, "chunk_size", str(CHUNK), chunk_size)
    check_tensor(function, "cu_seqlens", cu_seqlens, (torch.int32, torch.int64), 1)
    check_tensor(function, "chunk_indices", chunk_indices, (cu_seqlens.dtype,), 2)
    return _plans.get(
        (tokens, cu_seqlens.dtype),
        (cu_seqlens, chunk_indices),
        lambda: _plan(function, tokens, cu_seqlens.long(), chunk_indices.long()),
    )


def _plan(function: str, tokens: int, cumulative: torch.Tensor, indices: torch.Tensor) -> _Chunks:
    lengths = cumulative.diff()
    ok = len(cumulative) > 0 and bool((lengths >= 0).all())
    require(ok and cumulative[0] == 0 and cumulative[-1] == tokens, function, "cu_seqlens",
            f"cumulative lengths from 0 to {tokens}", cumulative.tolist())  # fmt: skip
    offsets = torch.zeros_like(cumulative)
    torch.cumsum((lengths + CHUNK - 1) // CHUNK, 0, out=offsets[1:])
    total = int(offsets[-1])
    sequence = torch.repeat_interleave(offsets.diff())
    inside = torch.arange(total) - offsets[sequence]
    expected = torch.stack((sequence, inside), 1)
    require(torch.equal(indices, expected), function, "chunk_indices",
            f"(sequence, chunk in it): {expected.tolist()}", indices.tolist())  # fmt: skip
    owner = torch.repeat_interleave(lengths)
    place = torch.arange(tokens) - cumulative[owner] + offsets[owner] * CHUNK
    last = (lengths[sequence] - inside * CHUNK).clamp_(max=CHUNK) - 1
    return _Chunks(total, place, last, offsets)
