# SPDX-License-Identifier: Apache-2.0
"""Activation functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["ACTIVATION"]

FAR_BELOW, FAR_ABOVE = (-1e4, -90.0, -20.0, -0.0, 0.0, 1.0), (20.0, 90.0, 1e4)
"""Where an exponential over- or underflows."""


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def _gated(x: Tensor) -> Tensor:
    gate, up = x.double().chunk(2, dim=-1)
    return gate * _sigmoid(gate) * up


def _gelu(x: Tensor) -> Tensor:
    return x.double() * 0.5 * (1 + torch.erf(x.double() / math.sqrt(2)))


def _quick_gelu(x: Tensor) -> Tensor:
    return x.double() * _sigmoid(1.702 * x.double())


def _swiglu(inputs: Inputs, x: Tensor) -> Call:
    y = inputs.empty(*x.shape[:-1], x.shape[-1] // 2)
    return Call((), {"x": x, "y": y}, {"y": _gated(x)})


def _gelu_call(inputs: Inputs, x: Tensor) -> Call:
    return Call((x, inputs.empty(*x.shape)), expected={1: _gelu(x)})


def _quick_gelu_call(inputs: Inputs, x: Tensor) -> Call:
    return Call((x,), {"out": inputs.empty(*x.shape)}, {"out": _quick_gelu(x)})


def _far(inputs: Inputs, values: tuple[float, ...]) -> Tensor:
    """Each value with a factor of 2 beside it in the second half."""
    return inputs.tensor([values + (2.0,) * len(values)], inputs.dtype)


def _random(inputs: Inputs, call: Callable[[Inputs, Tensor], Call], shape: tuple[int, ...]) -> Call:
    return call(inputs, inputs.normal(*shape, scale=3))


def _cases(name: str, call: Callable[[Inputs, Tensor], Call], assumption: str | None) -> list[Case]:
    shapes = {"rows": (7, 66), "one row": (1, 2), "three dimensions": (3, 5, 32), "no rows": (0, 8)}
    return [
        *(
            Case(name, label, partial(_random, call=call, shape=shape), assumption=assumption)
            for label, shape in shapes.items()
        ),
        Case(name, "far below 0", lambda i: call(i, _far(i, FAR_BELOW)), assumption=assumption),
        Case(name, "far above 0", lambda i: call(i, _far(i, FAR_ABOVE)), assumption=assumption),
    ]  # fmt: skip


ACTIVATION = (
    *_cases("kunlun_ops.swiglu", _swiglu, None),
    *_cases("kunlun_ops.gelu", _gelu_call, "gelu-exists"),
    *_cases("kunlun_ops.quick_gelu", _quick_gelu_call, None),
)
