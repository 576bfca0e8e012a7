# SPDX-License-Identifier: Apache-2.0
"""Norms and the exact GELU."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome
from vllm_kunlun.ops.conformance.probes.cache import HALF

__all__ = ["NORM"]

WIDTH = 128


def _rounding(inputs: Inputs, weight: float) -> Call:
    """2048 everywhere and 1 more in a quarter of the row, which float16 cannot hold.

    The norm of the exact sums is one step higher there: with a factor of about 1.95 the results lie
    0.73 of a float16 step above it and 0.24 below it. The norm of rounded sums is flat.
    """
    more = torch.zeros(1, WIDTH, dtype=torch.float64)
    more[:, ::4] = 1.0
    x, y = (part.to(inputs.dtype) for part in (torch.full_like(more, 2048), more))
    keywords = {
        "weight": inputs.tensor([weight] * WIDTH, inputs.dtype),
        "eps": 1e-6,
        "residual_output": inputs.empty(1, WIDTH),
        "output": inputs.empty(1, WIDTH),
    }

    def rises(wanted: bool) -> Callable[[Outcome], float]:
        def judge(outcome: Outcome) -> float:
            row = outcome["output"][0].double()
            flat = bool((row == row[0]).all())
            high = bool((row[::4] > row[1]).all())
            return 0.0 if (high if wanted else flat) else 1.0

        return judge

    return Call((x, y), keywords, judge=rises(True),
                otherwise={"the rounded sum is normed": rises(False)})  # fmt: skip


def _weight_dtype(inputs: Inputs) -> Call:
    x, weight = inputs.normal(3, WIDTH), inputs.normal(WIDTH)
    wide = x.double()
    expected = wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()
    return Call((x, weight, inputs.empty(3, WIDTH), 1e-6), expected={2: expected})


def _gelu(inputs: Inputs) -> Call:
    x = inputs.tensor([[-3.0, -2.0, -1.0, -0.5]], inputs.dtype)
    wide = x.double()
    exact = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    tanh = wide * 0.5 * (1 + torch.tanh(inner))
    return Call(
        (x, torch.empty_like(x)), expected={1: exact}, otherwise={"the tanh form": {1: tanh}}
    )


NORM = (
    Case("kunlun_ops.add_rmsnorm", "probe: a sum that float16 cannot hold",
         lambda i: _rounding(i, 1.95), HALF, assumption="norm-sum-before-rounding"),
    Case("kunlun_ops.gemma_add_rmsnorm", "probe: a sum that float16 cannot hold",
         lambda i: _rounding(i, 0.95), HALF, assumption="norm-sum-before-rounding"),
    Case("kunlun_ops.rmsnorm", "probe: a float16 weight", _weight_dtype, HALF,
         assumption="norm-weight-dtype"),
    Case("kunlun_ops.gelu", "probe: exact or tanh", _gelu, (torch.float32,),
         assumption="gelu-exists"),
)  # fmt: skip
