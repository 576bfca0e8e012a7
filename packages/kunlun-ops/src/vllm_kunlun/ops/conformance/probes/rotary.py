# SPDX-License-Identifier: Apache-2.0
"""The fused split, head norm and rotation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome

__all__ = ["ROTARY"]

SIZE, ROTATED = 64, 64
FLOAT32 = (torch.float32,)
PLAIN, GATED = "kunlun_ops.split_norm_rope_neox", "xspeedgate_ops.split_norm_rope_neox"


def _table(inputs: Inputs) -> Tensor:
    """Cosines, then sines: no turn at position 0, a quarter turn at position 1."""
    half = ROTATED // 2
    rows = [[1.0] * half + [0.0] * half, [0.0] * half + [1.0] * half]
    return inputs.tensor(rows, inputs.dtype)


def _head(first: float, second: float) -> Tensor:
    """One head in float64 whose halves are constant."""
    return torch.tensor([first] * (SIZE // 2) + [second] * (SIZE // 2), dtype=torch.float64)


def _call(
    inputs: Inputs,
    function: str,
    head: Tensor,
    weight: float,
    position: int,
    expected: Tensor,
    otherwise: Mapping[str, Tensor],
) -> Call:
    """One token, one query head and one key head, both ``head``."""
    qkv = torch.cat([head] * 3).view(1, -1).to(inputs.dtype)
    weights = inputs.tensor([weight] * SIZE, inputs.dtype)
    positions = inputs.tensor([position], torch.int64)
    if function == PLAIN:
        outputs = [inputs.empty(1, SIZE) for _ in range(3)]
        arguments = (*outputs, qkv, _table(inputs), weights, weights.clone(), positions,
                     1, 2, 1, 1, SIZE, ROTATED)  # fmt: skip
        call = Call(arguments)
        places: tuple[Any, ...] = (0, 1)
    else:
        call = Call(kwargs=_gated_arguments(qkv, weights, positions, _table(inputs)))
        places = ("return.0", "return.1")
    return dataclasses.replace(
        call,
        expected={place: expected.view(1, -1) for place in places},
        otherwise={
            meaning: {place: values.view(1, -1) for place in places}
            for meaning, values in otherwise.items()
        },
    )


def _gated_arguments(
    qkv: Tensor, weights: Tensor, positions: Tensor, table: Tensor
) -> dict[str, Any]:
    return {
        "qkv": qkv,
        "q_weights": weights,
        "k_weights": weights.clone(),
        "positions": positions,
        "cos_sin_cache": table,
        "q_size": SIZE,
        "kv_size": SIZE,
        "num_q_heads": 1,
        "num_kv_heads": 1,
        "head_dim": SIZE,
        "rotary_dim": ROTATED,
        "attn_output_gate": False,
    }


def _epsilon(inputs: Inputs, function: str) -> Call:
    """A head whose mean square is 1e-6."""
    head, weight = _head(1e-3, -1e-3), 1.0 if function == PLAIN else 0.0
    normed = {eps: head * (1e-6 + eps) ** -0.5 for eps in (1e-6, 1e-5, 0.0)}
    otherwise = {"1e-5": normed[1e-5], "0": normed[0.0]}
    return _call(inputs, function, head, weight, 0, normed[1e-6], otherwise)


def _quarter_turn(inputs: Inputs) -> Call:
    """``(a, b)`` becomes ``(-b, a)``."""
    a, b = 0.6, 1.28062485  # mean square 1
    otherwise = {"sines, then cosines": _head(a, b), "turned the other way": _head(b, -a)}
    return _call(inputs, PLAIN, _head(a, b), 1.0, 1, _head(-b, a), otherwise)


def _zero_weight(inputs: Inputs, function: str) -> Call:
    bare, nothing = _head(1.0, -1.0), _head(0.0, 0.0)
    if function == PLAIN:
        return _call(inputs, function, bare, 0.0, 0, nothing, {"by 1 + w": bare})
    return _call(inputs, function, bare, 0.0, 0, bare, {"by w": nothing})


def _without_gate(inputs: Inputs) -> Call:
    qkv, weights = inputs.normal(1, 3 * SIZE), inputs.normal(SIZE)
    positions = inputs.tensor([0], torch.int64)

    def numbers(outcome: Outcome) -> int | None:
        gate = outcome.returned[3]
        return None if gate is None else gate.numel()

    otherwise = {
        "None": lambda outcome: float(numbers(outcome) is not None),
        "a tensor with values": lambda outcome: float(not numbers(outcome)),
    }
    keywords = _gated_arguments(qkv, weights, positions, _table(inputs))
    return Call(
        kwargs=keywords, judge=lambda outcome: float(numbers(outcome) != 0), otherwise=otherwise
    )


_NEAR = {torch.float32: 1e-3}
ROTARY = (
    Case(PLAIN, "probe: epsilon", lambda i: _epsilon(i, PLAIN), FLOAT32, _NEAR,
         assumption="fused-rope-epsilon"),
    Case(GATED, "probe: epsilon", lambda i: _epsilon(i, GATED), FLOAT32, _NEAR,
         assumption="fused-rope-epsilon"),
    Case(PLAIN, "probe: a quarter turn", _quarter_turn, FLOAT32, _NEAR,
         assumption="fused-rope-table"),
    Case(PLAIN, "probe: weights of 0", lambda i: _zero_weight(i, PLAIN), FLOAT32, _NEAR,
         assumption="fused-rope-plain-weight"),
    Case(GATED, "probe: weights of 0", lambda i: _zero_weight(i, GATED), FLOAT32, _NEAR,
         assumption="gated-rope-gemma-weight"),
    Case(GATED, "probe: without a gate", _without_gate, FLOAT32,
         assumption="gated-rope-without-gate"),
)  # fmt: skip
