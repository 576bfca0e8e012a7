# SPDX-License-Identifier: Apache-2.0
"""Gated delta rule, token by token, and its gate."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from vllm_kunlun.emulator.checks import (
    FLOATS,
    check_range,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.functions.ragged import ragged_rows
from vllm_kunlun.emulator.functions.state_pool import check_pool

__all__ = ["check_packed", "fused_gdn_gating", "fused_recurrent_gated_delta_rule_fwdv2"]

SOFTPLUS_THRESHOLD = 20.0
L2_EPS = 1e-6


class _Sequences(NamedTuple):
    """The sequences that have tokens and a state, longest first."""

    number: torch.Tensor
    """which of the call's sequences each is, int64"""
    start: torch.Tensor
    """first token"""
    state: torch.Tensor
    """row of the pool that it starts from"""
    alive: list[int]
    """how many of them have a token ``t``, for each ``t``"""


def fused_gdn_gating(
    A_log: torch.Tensor, a: torch.Tensor, dt_bias: torch.Tensor, /
) -> torch.Tensor:
    """``g = -exp(A_log) * softplus(a + dt_bias)``.

    Shapes: A_log and dt_bias float32 ``[HV]``, a ``[T, HV]`` -> float32 ``[T, HV]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``kunlun_ops.fused_gdn_gating``.
    """
    name = "fused_gdn_gating"
    check_tensor(name, "a", a, dims=2)
    for argument, value in (("A_log", A_log), ("dt_bias", dt_bias)):
        check_tensor(name, argument, value, (torch.float32,), 1)
        check_shape(name, argument, value, a.shape[1:])
    return F.softplus(a + dt_bias, threshold=SOFTPLUS_THRESHOLD).mul_(-A_log.exp())


def fused_recurrent_gated_delta_rule_fwdv2(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    scale: float,
    initial_state: torch.Tensor,
    /,
    *,
    inplace_final_state: bool,
    cu_seqlens: torch.Tensor,
    h0_indices: torch.Tensor,
    num_accepted_tokens: torch.Tensor | None,
    use_qk_l2norm_in_kernel: bool,
    is_h0_transposed: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each token: ``S *= exp(g); d = (v - S k) * beta; S += d k^T; o = S (q * scale)``.

    ``S`` is a row ``[HV, V, K]`` of ``initial_state``, which is written. A negative index is
    skipped: no state is written, and a sequence that would start from it gives zeros.

    With ``num_accepted_tokens`` each token has a row of its own, and index 0 is skipped as well. In
    ``[N, S + 1]`` a sequence starts from row ``h0_indices[n, accepted - 1]`` and keeps the state
    after token ``t`` in row ``h0_indices[n, t]``; in ``[T]`` the rows of all tokens follow one
    another.

    Shapes: q and k ``[1, T, H, K]``, v ``[1, T, HV, V]``, g and beta ``[1, T, HV]``, initial_state
    ``[rows, HV, V, K]``, cu_seqlens int32 ``[N + 1]``, h0_indices int32 ``[N]`` (or as above),
    num_accepted_tokens int32 ``[N]`` -> o ``[1, T, HV, V]``, initial_state.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``kunlun_ops.fused_recurrent_gated_delta_rule_fwdv2``.
    """
    name = "fused_recurrent_gated_delta_rule_fwdv2"
    for argument, given in (
        ("inplace_final_state", inplace_final_state),
        ("is_h0_transposed", is_h0_transposed),
    ):
        require(given is True, name, argument, "True", given)
    heads, value_heads, key_size, value_size = check_packed(name, q, k, v, g, beta, FLOATS)
    check_pool(name, "initial_state", initial_state, FLOATS, (value_heads, value_size, key_size))
    sequences = _sequences(
        name, cu_seqlens, h0_indices, num_accepted_tokens, q.shape[1], initial_state.shape[0]
    )
    query, key = q[0].float(), k[0].float()
    if use_qk_l2norm_in_kernel:
        query, key = _normalise(query), _normalise(key)
    query, key = (
        x.repeat_interleave(value_heads // heads, 1).unsqueeze(-1)  # [T, HV, K, 1]
        for x in (query * scale, key)
    )
    value, decay, rate = v[0].float(), g[0].float().exp(), beta[0].float()
    output = torch.zeros_like(value)
    states = initial_state[sequences.state].float()  # [n, HV, V, K]
    for t, alive in enumerate(sequences.alive):
        rows = sequences.start[:alive] + t
        state = states[:alive]
        state.mul_(decay[rows][..., None, None])
        delta = (value[rows] - (state @ key[rows]).squeeze(-1)) * rate[rows].unsqueeze(-1)
        state.addcmul_(delta.unsqueeze(-1), key[rows].transpose(-1, -2))
        output[rows] = (state @ query[rows]).squeeze(-1)
        if num_accepted_tokens is not None and h0_indices.dim() == 2:
            _store(initial_state, h0_indices[sequences.number[:alive], t].long(), state, first=1)
        elif num_accepted_tokens is not None:
            _store(initial_state, h0_indices[rows].long(), state, first=1)
    if num_accepted_tokens is None:
        _store(initial_state, sequences.state, states)
    return output.to(v.dtype).unsqueeze(0), initial_state


def check_packed(
    function: str,
    q: torch.Tensor | None,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor | None,
    decay_dtypes: tuple[torch.dtype, ...] = (torch.float32,),
) -> tuple[int, int, int, int]:
    """Hold that the tensors of one packed batch agree. Returns ``H, HV, K, V``.

    Shapes: q and k ``[1, T, H, K]``, v ``[1, T, HV, V]``, g and beta ``[1, T, HV]``.
    Raises: VendorContractError: they do not fit together.
    """
    check_tensor(function, "k", k, dims=4)
    one, tokens, heads, key_size = k.shape
    require(one == 1, function, "k", "of batch size 1", one)
    check_tensor(function, "v", v, (k.dtype,), 4)
    value_heads, value_size = v.shape[2:]
    check_shape(function, "v", v, (1, tokens, value_heads, value_size))
    grouped = heads > 0 and value_heads % heads == 0
    require(grouped, function, "v", f"of a multiple of {heads} heads", value_heads)
    if q is not None:
        check_tensor(function, "q", q, (k.dtype,), 4)
        check_shape(function, "q", q, k.shape)
    check_tensor(function, "g", g, decay_dtypes, 3)
    check_shape(function, "g", g, (1, tokens, value_heads))
    if beta is not None:
        check_tensor(function, "beta", beta, dims=3)
        check_shape(function, "beta", beta, (1, tokens, value_heads))
    return heads, value_heads, key_size, value_size


def _sequences(
    function: str,
    cu_seqlens: torch.Tensor,
    indices: torch.Tensor,
    accepted: torch.Tensor | None,
    tokens: int,
    rows: int,
) -> _Sequences:
    flat = accepted is not None and indices.dim() == 1
    dims = 1 if accepted is None or flat else 2
    check_tensor(function, "h0_indices", indices, (torch.int32,), dims)
    check_range(function, "h0_indices", indices, rows, low=-(1 << 31))
    if flat:
        check_shape(function, "h0_indices", indices, (tokens,))
    count = cu_seqlens.numel() - 1 if flat else indices.shape[0]
    longest = indices.shape[1] if dims == 2 else tokens
    request, _ = ragged_rows(function, "cu_seqlens", cu_seqlens, count, longest)
    require(len(request) == tokens, function, "cu_seqlens", f"up to {tokens}", len(request))
    lengths = cu_seqlens.diff()
    if accepted is None:
        none, first = indices < 0, indices
    else:
        check_tensor(function, "num_accepted_tokens", accepted, (torch.int32,), 1)
        check_shape(function, "num_accepted_tokens", accepted, (count,))
        check_range(function, "num_accepted_tokens", accepted, longest + 1, low=1)
        column = accepted.long() - 1
        if flat:
            held = bool((column < lengths).all())
            require(held, function, "num_accepted_tokens", "up to each sequence's tokens",
                    accepted.tolist())  # fmt: skip
            first = indices[cu_seqlens[:-1].long() + column]
        else:
            first = indices.gather(1, column.unsqueeze(1)).squeeze(1)
        none = first <= 0
    lengths = lengths.masked_fill_(none, 0)
    lengths, number = lengths.sort(descending=True, stable=True)
    number = number[: int(torch.count_nonzero(lengths))]
    steps = torch.arange(int(lengths[0]) if count else 0)
    alive: list[int] = (lengths > steps.unsqueeze(1)).sum(1).tolist()
    return _Sequences(number, cu_seqlens[number].long(), first[number].long(), alive)


def _normalise(x: torch.Tensor) -> torch.Tensor:
    return x * x.square().sum(-1, keepdim=True).add_(L2_EPS).rsqrt_()


def _store(pool: torch.Tensor, rows: torch.Tensor, states: torch.Tensor, first: int = 0) -> None:
    """Indices below ``first`` are skipped."""
    kept = rows >= first
    pool.index_copy_(0, rows[kept], states[kept].to(pool.dtype))
