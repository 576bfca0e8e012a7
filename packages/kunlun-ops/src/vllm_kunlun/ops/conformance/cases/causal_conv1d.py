# SPDX-License-Identifier: Apache-2.0
"""Causal convolution: packed sequences, and one token of each request."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["CAUSAL_CONV1D"]

BLOCKS, DIM = 8, 24


def _pool(inputs: Inputs, state_len: int, apart: int) -> Tensor:
    """States of ``state_len`` rows with ``apart`` numbers of something else between them."""
    memory = inputs.normal(BLOCKS, state_len * DIM + apart)
    return memory[:, : state_len * DIM].unflatten(1, (state_len, DIM))


def _output(window: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``window [width, dim]``, float64."""
    total = (window * weight.double().T).sum(0)
    if bias is not None:
        total = total + bias.double()
    return total / (1 + (-total).exp())


def _prefill(
    inputs: Inputs,
    lengths: Sequence[int],
    indices: Sequence[int],
    known: Sequence[int],
    *,
    width: int = 4,
    state_len: int = 3,
    apart: int = 0,
    with_bias: bool = False,
) -> Call:
    tokens, past = sum(lengths), width - 1
    x, weight = inputs.normal(tokens, DIM), inputs.normal(DIM, width)
    bias = inputs.normal(DIM) if with_bias else None
    states, out = _pool(inputs, state_len, apart), inputs.empty(tokens, DIM)
    after, expected = states.double(), out.double()
    begin = 0
    for length, index, has in zip(lengths, indices, known, strict=True):
        if index >= 0:
            history = states[index, :past].double() * has
            everything = torch.cat((history, x[begin : begin + length].double()))
            for t in range(length):
                expected[begin + t] = _output(everything[t : t + width], weight, bias)
            after[index, :past] = everything[length:]
        begin += length
    starts = inputs.copies([sum(lengths[:n]) for n in range(len(lengths) + 1)])
    cache, has_state = inputs.copies(indices), inputs.copies(known)
    arguments = (
        x, out, DIM, tokens, weight, width, states, BLOCKS, state_len, *starts, len(lengths), bias,
    )  # fmt: skip
    keywords = {
        "cache_indices_cpu": cache[0],
        "cache_indices_xpu": cache[1],
        "has_initial_state_cpu": has_state[0],
        "has_initial_state_xpu": has_state[1],
        "act": "SWISH",
        "state_seq_stride": states.stride(0),
    }
    return Call(arguments, keywords, {1: expected, 6: after})


def _decode(
    inputs: Inputs,
    indices: Sequence[int],
    *,
    width: int = 4,
    state_len: int = 3,
    apart: int = 0,
    with_bias: bool = False,
) -> Call:
    x, weight = inputs.normal(len(indices), 1, DIM), inputs.normal(DIM, width)
    bias = inputs.normal(DIM) if with_bias else None
    states, out = _pool(inputs, state_len, apart), inputs.empty(len(indices), 1, DIM)
    after, expected = states.double(), out.double()
    for b, index in enumerate(indices):
        if index >= 0:
            window = torch.cat((states[index, : width - 1], x[b])).double()
            expected[b, 0] = _output(window, weight, bias)
            after[index, : width - 1] = window[1:]
    cache = inputs.copies(indices)
    keywords = {
        "conv_state_indices_cpu": cache[0],
        "conv_state_indices_xpu": cache[1],
        "act": "SWISH",
        "state_seq_stride": states.stride(0),
        "is_ncw": False,
    }
    return Call((x, weight, out, states, None, bias), keywords, {2: expected, 3: after})


_FN, _UPDATE = "kunlun_ops.causal_conv1d_fn", "kunlun_ops.causal_conv1d_update"
_ROWS, _NEGATIVE = "conv-state-rows", "conv-negative-index"
CAUSAL_CONV1D = (
    Case(_FN, "with and without a past",
         lambda i: _prefill(i, (5, 1, 40, 2), (3, 0, 6, 1), (0, 1, 1, 0))),
    Case(_FN, "states apart, bias",
         lambda i: _prefill(i, (7, 1), (2, 5), (1, 1), apart=13, with_bias=True)),
    Case(_FN, "empty sequence", lambda i: _prefill(i, (3, 0, 2), (4, 1, 7), (0, 1, 1))),
    Case(_FN, "width 2", lambda i: _prefill(i, (4, 1), (1, 2), (1, 0), width=2, state_len=1)),
    Case(_FN, "longer states", lambda i: _prefill(i, (1, 9), (1, 2), (1, 0), state_len=5),
         assumption=_ROWS),
    Case(_FN, "negative index", lambda i: _prefill(i, (2, 3, 1), (1, -1, 2), (1, 1, 0)),
         assumption=_NEGATIVE),
    Case(_FN, "no sequences", lambda i: _prefill(i, (), (), ())),
    Case(_UPDATE, "three requests", lambda i: _decode(i, (4, 0, 7))),
    Case(_UPDATE, "states apart, bias", lambda i: _decode(i, (1, 6), apart=13, with_bias=True)),
    Case(_UPDATE, "width 2", lambda i: _decode(i, (1, 6), width=2, state_len=1)),
    Case(_UPDATE, "longer states", lambda i: _decode(i, (1, 6), state_len=5), assumption=_ROWS),
    Case(_UPDATE, "negative index", lambda i: _decode(i, (3, -1, 5)), assumption=_NEGATIVE),
    Case(_UPDATE, "no requests", lambda i: _decode(i, ())),
)  # fmt: skip
