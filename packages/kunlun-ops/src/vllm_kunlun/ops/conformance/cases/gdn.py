# SPDX-License-Identifier: Apache-2.0
"""Gated delta rule: gate, recurrent form, and each step of the form by chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs
from vllm_kunlun.ops.contract.limits import CHUNK_TOKENS as CHUNK

__all__ = ["GDN"]

SCALE = 0.23
HALVES = (torch.float16, torch.bfloat16)
SINGLE = (torch.float32,)
INT32 = torch.int32


class _Batch(NamedTuple):
    """Packed sequences with ``HV`` a multiple of ``H``, and the host's view of their chunks."""

    lengths: Sequence[int]
    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    beta: Tensor
    cu_seqlens: Tensor
    chunk_indices: Tensor
    chunk_offsets: Tensor

    @property
    def group(self) -> int:
        return self.v.shape[2] // self.k.shape[2]

    def chunks(self) -> Iterator[tuple[int, int, slice]]:
        """(sequence, chunk of all, its tokens)."""
        begin, number = 0, 0
        for sequence, length in enumerate(self.lengths):
            for start in range(begin, begin + length, CHUNK):
                yield sequence, number, slice(start, min(start + CHUNK, begin + length))
                number += 1
            begin += length

    def summed(self) -> Tensor:
        """``g`` summed inside each chunk, float32 as the functions hand it on."""
        result = self.g.double().clone()
        for _, _, tokens in self.chunks():
            result[0, tokens] = result[0, tokens].cumsum(0)
        return result.float()


def _batch(
    inputs: Inputs,
    lengths: Sequence[int],
    heads: int = 2,
    value_heads: int = 6,
    key_size: int = 32,
    value_size: int = 16,
    *,
    index: torch.dtype = INT32,
) -> _Batch:
    tokens = sum(lengths)
    q, k = (inputs.normal(1, tokens, heads, key_size, scale=key_size**-0.5) for _ in range(2))
    counts = [math.ceil(length / CHUNK) for length in lengths]
    pairs = [(n, c) for n, count in enumerate(counts) for c in range(count)]
    return _Batch(
        lengths,
        q,
        k,
        inputs.normal(1, tokens, value_heads, value_size),
        -inputs.uniform(1, tokens, value_heads, dtype=torch.float32),
        inputs.uniform(1, tokens, value_heads),
        inputs.tensor(_sums(lengths), index),
        inputs.tensor(pairs, index).view(-1, 2),
        inputs.tensor(_sums(counts), index),
    )


def _sums(lengths: Sequence[int]) -> list[int]:
    return [sum(lengths[:n]) for n in range(len(lengths) + 1)]


def _gating(inputs: Inputs, tokens: int, heads: int) -> Call:
    a = inputs.normal(tokens, heads, scale=12.0)  # beyond softplus's threshold of 20 too
    A_log, dt_bias = (inputs.normal(heads, dtype=torch.float32) for _ in range(2))
    expected = -A_log.double().exp() * torch.log1p((a.double() + dt_bias.double()).exp())
    return Call((A_log, a, dt_bias), expected={"return": expected})


def _step(state: Tensor, batch: _Batch, t: int, head: int, normalise: bool) -> Tensor:
    """One token of one value head: ``state [V, K]`` changed in place, output returned."""
    query, key = batch.q[0, t, head // batch.group], batch.k[0, t, head // batch.group]
    query, key = query.double(), key.double()
    if normalise:
        query, key = (x / (x.square().sum() + 1e-6).sqrt() for x in (query, key))
    state *= batch.g[0, t, head].double().exp()
    delta = batch.v[0, t, head].double() - state @ key
    state += torch.outer(delta * batch.beta[0, t, head].double(), key)
    return state @ (query * SCALE)


def _recurrent(
    inputs: Inputs,
    lengths: Sequence[int],
    indices: Sequence[Sequence[int]],
    accepted: Sequence[int] | None = None,
    *,
    flat: bool = False,
    normalise: bool = True,
    apart: int = 0,
    decay: torch.dtype = torch.float32,
) -> Call:
    """One index a sequence unless ``accepted``; ``apart`` numbers between rows of the pool.

    ``flat``: the indices of each sequence's tokens one after the other. With ``accepted`` an index
    of 0 is none.
    """
    batch = _batch(inputs, lengths)
    batch = batch._replace(g=batch.g.to(decay))
    value_heads, value_size, key_size = 6, 16, 32
    row = value_heads * value_size * key_size
    memory = inputs.normal(12, row + apart, scale=0.3)
    pool = memory[:, :row].unflatten(1, (value_heads, value_size, key_size))
    after, output = pool.double(), torch.zeros(batch.v.shape, dtype=torch.float64)
    for n, (begin, length) in enumerate(zip(_sums(lengths), lengths, strict=False)):
        rows = indices[n] if accepted is not None else [*indices[n]] * length
        start = indices[n][0] if accepted is None else rows[accepted[n] - 1]
        lowest = 0 if accepted is None else 1
        if start < lowest:
            continue
        state = pool[start].double()
        for t in range(length):
            for head in range(value_heads):
                output[0, begin + t, head] = _step(state[head], batch, begin + t, head, normalise)
            if rows[t] >= lowest:
                after[rows[t]] = state
    rows_of_all = inputs.tensor(indices, INT32)
    arguments = (batch.q, batch.k, batch.v, batch.g, batch.beta, SCALE, pool)
    keywords = {
        "inplace_final_state": True,
        "cu_seqlens": batch.cu_seqlens,
        "h0_indices": rows_of_all.flatten() if accepted is None or flat else rows_of_all,
        "num_accepted_tokens": None if accepted is None else inputs.tensor(accepted, INT32),
        "use_qk_l2norm_in_kernel": normalise,
        "is_h0_transposed": True,
    }
    return Call(arguments, keywords, {"return.0": output, 6: after, "return.1": after})


def _cumsum(inputs: Inputs, lengths: Sequence[int], index: torch.dtype = INT32) -> Call:
    batch = _batch(inputs, lengths, index=index)
    expected = torch.empty(batch.g.shape, dtype=torch.float64)
    for _, _, tokens in batch.chunks():
        for t in range(tokens.start, tokens.stop):
            expected[0, t] = batch.g[0, tokens.start : t + 1].double().sum(0)
    keywords = {
        "chunk_size": CHUNK,
        "reverse": False,
        "cu_seqlens": batch.cu_seqlens,
        "chunk_indices": batch.chunk_indices,
        "head_first": False,
    }
    return Call((batch.g,), keywords, {"return": expected})


def _decay(summed: Tensor) -> Tensor:
    """``exp(g_i - g_j)``, meaningful for ``j <= i``."""
    return (summed.unsqueeze(1) - summed).clamp(max=0.0).exp()


def _kkt(inputs: Inputs, lengths: Sequence[int], index: torch.dtype = INT32) -> Call:
    batch = _batch(inputs, lengths, index=index)
    summed = batch.summed()
    expected = torch.zeros(*batch.g.shape, CHUNK, dtype=torch.float64)
    for _, _, tokens in batch.chunks():
        length = tokens.stop - tokens.start
        for head in range(batch.g.shape[2]):
            key = batch.k[0, tokens, head // batch.group].double()
            rate = batch.beta[0, tokens, head].double()
            matrix = (key * rate.unsqueeze(1)) @ key.T
            matrix *= _decay(summed[0, tokens, head].double())
            expected[0, tokens, head, :length] = matrix.tril(-1)
    arguments = (batch.k, batch.beta, summed, batch.cu_seqlens, batch.chunk_indices, CHUNK)
    return Call(arguments, expected={"return": expected})


def _solve(
    inputs: Inputs, lengths: Sequence[int], value_heads: int = 3, *, index: torch.dtype = INT32
) -> Call:
    batch = _batch(inputs, lengths, 1, value_heads, index=index)
    A = torch.zeros(1, sum(lengths), value_heads, CHUNK)
    expected = torch.zeros(A.shape, dtype=torch.float64)
    for _, _, tokens in batch.chunks():
        length = tokens.stop - tokens.start
        for head in range(value_heads):
            matrix = inputs.normal(length, length, dtype=A.dtype, scale=0.1).tril(-1)
            A[0, tokens, head, :length] = matrix
            inverse = torch.linalg.inv(torch.eye(length, dtype=torch.float64) + matrix.double())
            expected[0, tokens, head, :length] = inverse
    A = A.to(inputs.dtype)
    arguments = (A, batch.cu_seqlens, batch.chunk_indices, CHUNK)
    return Call(arguments, expected={0: expected})


def _w_u(inputs: Inputs, lengths: Sequence[int], index: torch.dtype = INT32) -> Call:
    batch = _batch(inputs, lengths, index=index)
    summed = batch.summed()
    value_heads, key_size = batch.v.shape[2], batch.k.shape[3]
    A = torch.zeros(1, sum(lengths), value_heads, CHUNK)
    w = torch.empty(1, sum(lengths), value_heads, key_size, dtype=torch.float64)
    u = torch.empty(batch.v.shape, dtype=torch.float64)
    for _, _, tokens in batch.chunks():
        length = tokens.stop - tokens.start
        for head in range(value_heads):
            matrix = inputs.normal(length, length, dtype=A.dtype, scale=0.1).tril()
            A[0, tokens, head, :length] = matrix
            rate = batch.beta[0, tokens, head].double().unsqueeze(1)
            growth = summed[0, tokens, head].double().exp().unsqueeze(1)
            key = batch.k[0, tokens, head // batch.group].double()
            w[0, tokens, head] = matrix.double() @ (rate * growth * key)
            u[0, tokens, head] = matrix.double() @ (rate * batch.v[0, tokens, head].double())
    keywords = {
        "k": batch.k,
        "v": batch.v,
        "beta": batch.beta,
        "A": A,
        "g_cumsum": summed,
        "cu_seqlens": batch.cu_seqlens,
        "chunk_indices": batch.chunk_indices,
        "chunk_size": CHUNK,
    }
    return Call(kwargs=keywords, expected={"return.0": w, "return.1": u})


def _states(inputs: Inputs, lengths: Sequence[int], index: torch.dtype = INT32) -> Call:
    batch = _batch(inputs, lengths, index=index)
    summed = batch.summed()
    _, tokens_in_all, value_heads, value_size = batch.v.shape
    key_size = batch.k.shape[3]
    w = inputs.normal(1, tokens_in_all, value_heads, key_size, scale=0.1)
    initial = inputs.normal(len(lengths), value_heads, key_size, value_size)
    final = initial.double()
    h = torch.empty(1, len(batch.chunk_indices), *final.shape[1:], dtype=torch.float64)
    v_new = torch.empty(batch.v.shape, dtype=torch.float64)
    for n, number, tokens in batch.chunks():
        for head in range(value_heads):
            state = final[n, head]
            h[0, number, head] = state
            value = batch.v[0, tokens, head].double()
            value = value - w[0, tokens, head].double() @ state
            v_new[0, tokens, head] = value
            decay = summed[0, tokens, head].double()
            left = (decay[-1] - decay).exp().unsqueeze(1)
            key = batch.k[0, tokens, head // batch.group].double()
            final[n, head] = state * decay[-1].exp() + key.T @ (value * left)
    arguments = (
        batch.k, batch.v, w, summed, initial, batch.cu_seqlens, batch.chunk_indices,
        batch.chunk_offsets, CHUNK, True, True,
    )  # fmt: skip
    untouched = initial.double()
    return Call(
        arguments, expected={"return.0": h, "return.1": v_new, "return.2": final, 4: untouched}
    )


def _outputs(inputs: Inputs, lengths: Sequence[int], index: torch.dtype = INT32) -> Call:
    batch = _batch(inputs, lengths, index=index)
    summed = batch.summed()
    value_heads, value_size = batch.v.shape[2:]
    h = inputs.normal(1, len(batch.chunk_indices), value_heads, batch.k.shape[3], value_size)
    expected = torch.empty(batch.v.shape, dtype=torch.float64)
    for _, number, tokens in batch.chunks():
        for head in range(value_heads):
            query = batch.q[0, tokens, head // batch.group].double()
            key = batch.k[0, tokens, head // batch.group].double()
            decay = summed[0, tokens, head].double()
            weights = ((query @ key.T) * _decay(decay)).tril()
            across = (query @ h[0, number, head].double()) * decay.exp().unsqueeze(1)
            inside = weights @ batch.v[0, tokens, head].double()
            expected[0, tokens, head] = SCALE * (across + inside)
    keywords = {
        "q": batch.q,
        "k": batch.k,
        "v": batch.v,
        "h": h,
        "g": summed,
        "scale": SCALE,
        "cu_seqlens": batch.cu_seqlens,
        "chunk_indices": batch.chunk_indices,
        "chunk_size": CHUNK,
    }
    return Call(kwargs=keywords, expected={"return": expected})


RAGGED = (64, 1, 130, 63)
HOLES = (0, 65, 0, 0, 3, 0)

_GATING = "kunlun_ops.fused_gdn_gating"
_RECURRENT = "kunlun_ops.fused_recurrent_gated_delta_rule_fwdv2"
_CUMSUM, _KKT = "xspeedgate_ops.chunk_local_cumsum", "xspeedgate_ops.chunk_scaled_dot_kkt_fwd"
_SOLVE, _W_U = "xspeedgate_ops.solve_tril_ns", "xspeedgate_ops.recompute_w_u_fwd"
_H, _O = "xspeedgate_ops.chunk_gated_delta_rule_fwd_h", "xspeedgate_ops.chunk_fwd_o"
_FLOAT32, _EMPTY = "gdn-float32", "gdn-empty-sequence"
_DRAFTS = "gdn-speculative-states"

GDN = (
    Case(_GATING, "large and small", lambda i: _gating(i, 37, 6)),
    Case(_GATING, "no tokens", lambda i: _gating(i, 0, 4)),
    Case(_RECURRENT, "one token each", lambda i: _recurrent(i, (1, 1, 1), ((4,), (1,), (7,))),
         HALVES),
    Case(_RECURRENT, "float32", lambda i: _recurrent(i, (1, 1, 1), ((4,), (1,), (7,))), SINGLE,
         assumption=_FLOAT32),
    # Without drafts a request has one token: some builds want as many indices as tokens.
    Case(_RECURRENT, "not normalised",
         lambda i: _recurrent(i, (1, 1, 1, 1), ((4,), (1,), (8,), (7,)), normalise=False), HALVES),
    Case(_RECURRENT, "log decay in float16",
         lambda i: _recurrent(i, (1, 1), ((4,), (2,)), decay=torch.float16), HALVES[:1]),
    Case(_RECURRENT, "log decay in bfloat16",
         lambda i: _recurrent(i, (1, 1), ((4,), (2,)), decay=torch.bfloat16), HALVES[1:]),
    Case(_RECURRENT, "states apart", lambda i: _recurrent(i, (1, 1), ((5,), (2,)), apart=40),
         HALVES, assumption="gdn-pool-stride"),
    Case(_RECURRENT, "negative index", lambda i: _recurrent(i, (1, 1, 1), ((3,), (-1,), (6,))),
         HALVES, assumption="gdn-negative-index"),
    Case(_RECURRENT, "drafts, a row of indices each",
         lambda i: _recurrent(i, (3, 1, 2), ((9, 1, 2), (5, 4, 3), (8, 7, 6)), (3, 1, 2)), HALVES,
         finding=_DRAFTS, form="columns"),
    Case(_RECURRENT, "drafts, an index for each token",
         lambda i: _recurrent(i, (3, 3, 3), ((9, 1, 2), (5, 4, 3), (8, 7, 6)), (3, 1, 2),
                              flat=True), HALVES,
         finding=_DRAFTS, form="flat"),
    Case(_RECURRENT, "drafts, no index",
         lambda i: _recurrent(i, (3, 3, 3), ((9, 0, 2), (0, 4, 3), (8, -1, 6)), (1, 1, 3)), HALVES,
         assumption="gdn-draft-without-index"),
    Case(_RECURRENT, "no sequences", lambda i: _recurrent(i, (), ()), HALVES),
    Case(_CUMSUM, "ragged", lambda i: _cumsum(i, RAGGED), SINGLE),
    Case(_CUMSUM, "empty sequences", lambda i: _cumsum(i, HOLES), SINGLE, assumption=_EMPTY),
    Case(_CUMSUM, "no sequences", lambda i: _cumsum(i, ()), SINGLE),
    Case(_KKT, "ragged", lambda i: _kkt(i, RAGGED), HALVES, assumption="gdn-kkt-sign"),
    Case(_KKT, "float32", lambda i: _kkt(i, RAGGED), SINGLE, assumption=_FLOAT32),
    Case(_KKT, "empty sequences", lambda i: _kkt(i, HOLES), HALVES, assumption=_EMPTY),
    Case(_SOLVE, "ragged", lambda i: _solve(i, RAGGED), SINGLE, assumption="gdn-kkt-dtype"),
    Case(_SOLVE, "empty sequences", lambda i: _solve(i, HOLES), SINGLE, assumption=_EMPTY),
    Case(_SOLVE, "no sequences", lambda i: _solve(i, ()), SINGLE),
    Case(_W_U, "ragged", lambda i: _w_u(i, RAGGED), HALVES, assumption="gdn-kkt-dtype"),
    Case(_W_U, "float32", lambda i: _w_u(i, RAGGED), SINGLE, assumption=_FLOAT32),
    Case(_H, "ragged", lambda i: _states(i, RAGGED), HALVES,
         assumption="gdn-final-state-float32"),
    Case(_H, "float32", lambda i: _states(i, RAGGED), SINGLE, assumption=_FLOAT32),
    Case(_H, "empty sequences", lambda i: _states(i, HOLES), HALVES, assumption=_EMPTY),
    Case(_H, "no sequences", lambda i: _states(i, ()), HALVES),
    Case(_O, "ragged", lambda i: _outputs(i, RAGGED), HALVES),
    Case(_O, "float32", lambda i: _outputs(i, RAGGED), SINGLE, assumption=_FLOAT32),
    Case(_O, "empty sequences", lambda i: _outputs(i, HOLES), HALVES, assumption=_EMPTY),
    *(
        Case(function, "int64 lengths", partial(build, lengths=RAGGED, index=torch.int64), dtypes)
        for function, build, dtypes in (
            (_CUMSUM, _cumsum, SINGLE), (_KKT, _kkt, HALVES), (_SOLVE, _solve, SINGLE),
            (_W_U, _w_u, HALVES), (_H, _states, HALVES), (_O, _outputs, HALVES),
        )
    ),
)  # fmt: skip
