# SPDX-License-Identifier: Apache-2.0
"""Normalisation."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["NORM"]

EPS = 1e-5


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x * rsqrt(mean(x^2) + eps) * weight`` in float64."""
    x = x.double()
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.double()


def _rmsnorm(inputs: Inputs, *shape: int) -> Call:
    x, weight, output = inputs.normal(*shape), inputs.normal(shape[-1]), inputs.empty(*shape)
    return Call((x, weight, output, EPS), expected={2: rms_norm(x, weight, EPS)})


NORM = (
    Case("kunlun_ops.rmsnorm", "one row", lambda i: _rmsnorm(i, 1, 128)),
    Case("kunlun_ops.rmsnorm", "odd width", lambda i: _rmsnorm(i, 7, 193)),
    Case("kunlun_ops.rmsnorm", "three dimensions", lambda i: _rmsnorm(i, 3, 5, 64)),
    Case("kunlun_ops.rmsnorm", "no rows", lambda i: _rmsnorm(i, 0, 64)),
)
