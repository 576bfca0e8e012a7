# SPDX-License-Identifier: Apache-2.0
"""Normalisation."""

from __future__ import annotations

import torch
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


def _add_rmsnorm(inputs: Inputs, rows: int, width: int, *, alias: bool) -> Call:
    x, y, weight = inputs.normal(rows, width), inputs.normal(rows, width), inputs.normal(width)
    total = x.double() + y.double()
    expected = {"residual_output": total, "output": rms_norm(total, weight, EPS)}
    keywords = {
        "residual_output": y if alias else inputs.empty(rows, width),
        "weight": weight,
        "eps": EPS,
        "output": x if alias else inputs.empty(rows, width),
    }
    return Call((x, y), keywords, expected)


def _gemma(inputs: Inputs, rows: int, width: int) -> Call:
    x, weight, output = inputs.normal(rows, width), inputs.normal(width), inputs.empty(rows, width)
    arguments = (x, weight, output, EPS, False, False, None, False)
    return Call(arguments, expected={2: rms_norm(x, weight.double() + 1, EPS)})


def _gemma_add(inputs: Inputs, rows: int, width: int) -> Call:
    x, y, weight = inputs.normal(rows, width), inputs.normal(rows, width), inputs.normal(width)
    total = x.double() + y.double()
    keywords = {
        "weight": weight,
        "output": inputs.empty(rows, width),
        "eps": EPS,
        "enable_pdl": False,
        "interweaved": False,
        "store_output_before_norm": True,
        "bias": None,
        "smooth": None,
        "residual_output": inputs.empty(rows, width),
        "force_sdnn": False,
    }
    expected = {"residual_output": total, "output": rms_norm(total, weight.double() + 1, EPS)}
    return Call((x, y), keywords, expected)


def _gated(
    inputs: Inputs, rows: int, width: int, group: int | None, *, first: bool, gate: bool = True
) -> Call:
    x, weight = inputs.normal(rows, width), inputs.normal(width)
    z = inputs.normal(rows, width) if gate else None
    factor = torch.ones_like(x.double()) if z is None else z.double() * torch.sigmoid(z.double())
    wide = x.double() if first else x.double() * factor
    normed = torch.cat(
        [rms_norm(part, torch.ones_like(part[0]), EPS) for part in wide.split(group or width, -1)],
        dim=-1,
    )
    expected = normed * weight.double() * (factor if first else 1.0)
    arguments = (x, inputs.empty(rows, width), z, weight, EPS, group, first, True)
    return Call(arguments, expected={1: expected})


def _l2norm(inputs: Inputs, *shape: int) -> Call:
    x = inputs.normal(*shape)
    expected = x.double() * (x.double().square().sum(-1, keepdim=True) + 1e-6).rsqrt()
    return Call((x, inputs.empty(*shape), 1e-6), expected={1: expected})


_K = "kunlun_ops."
_GATED = _K + "rms_norm_gated"
NORM = (
    Case("kunlun_ops.rmsnorm", "one row", lambda i: _rmsnorm(i, 1, 128)),
    Case("kunlun_ops.rmsnorm", "odd width", lambda i: _rmsnorm(i, 7, 193)),
    Case("kunlun_ops.rmsnorm", "three dimensions", lambda i: _rmsnorm(i, 3, 5, 64)),
    Case("kunlun_ops.rmsnorm", "no rows", lambda i: _rmsnorm(i, 0, 64)),
    Case(_K + "add_rmsnorm", "odd width", lambda i: _add_rmsnorm(i, 7, 193, alias=False)),
    Case(_K + "add_rmsnorm", "in place", lambda i: _add_rmsnorm(i, 5, 64, alias=True)),
    Case(_K + "add_rmsnorm", "no rows", lambda i: _add_rmsnorm(i, 0, 64, alias=False)),
    Case(_K + "gemma_rmsnorm", "odd width", lambda i: _gemma(i, 7, 193)),
    Case(_K + "gemma_add_rmsnorm", "odd width", lambda i: _gemma_add(i, 7, 193)),
    Case(_GATED, "norm, then gate", lambda i: _gated(i, 7, 192, None, first=True)),
    Case(_GATED, "gate, then norm", lambda i: _gated(i, 7, 192, None, first=False)),
    Case(_GATED, "groups", lambda i: _gated(i, 5, 192, 48, first=True)),
    Case(
        _GATED,
        "no gate",
        lambda i: _gated(i, 5, 96, None, first=True, gate=False),
        assumption="gated-norm-without-gate",
    ),
    Case(_K + "l2norm", "heads", lambda i: _l2norm(i, 3, 5, 64)),
    Case(_K + "l2norm", "no rows", lambda i: _l2norm(i, 0, 64)),
)
