# SPDX-License-Identifier: Apache-2.0
"""Merging two attention results of which one or both saw no key."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs
from vllm_kunlun.ops.conformance.probes.pages import HALF, HEADS, constant, packed

__all__ = ["MERGE"]

PREFIX, SUFFIX = 3.0, 5.0


def _merge(
    inputs: Inputs,
    prefix_lse: float,
    suffix_lse: float,
    expected: tuple[float, float],
    otherwise: Mapping[str, tuple[float, float]],
) -> Call:
    """Outputs of 3 and 5; ``expected`` is the merged value and its log-sum-exp."""

    def results(value: float, lse: float) -> dict[int, Tensor]:
        return {4: constant([value]), 5: torch.full((HEADS, 1), lse, dtype=torch.float64)}

    lses = [inputs.tensor([[lse]] * HEADS, torch.float32) for lse in (prefix_lse, suffix_lse)]
    sides = [packed(inputs, [value], HEADS) for value in (PREFIX, SUFFIX)]
    outputs = (torch.empty_like(sides[0]), torch.empty_like(lses[0]))
    return Call(
        (sides[0], lses[0], sides[1], lses[1], *outputs),
        expected=results(*expected),
        otherwise={meaning: results(*pair) for meaning, pair in otherwise.items()},
    )


_MERGE, _ID = "kunlun_ops.attention_merge_stage", "merge-empty-side"
_NAN = {"NaN": (math.nan, math.nan)}
MERGE = (
    Case(_MERGE, "probe: prefix of -inf",
         lambda i: _merge(i, -math.inf, 2.0, (SUFFIX, 2.0), _NAN), HALF, assumption=_ID),
    Case(_MERGE, "probe: prefix of +inf",
         lambda i: _merge(i, math.inf, 2.0, (SUFFIX, 2.0),
                          {"it outweighs the other side": (PREFIX, math.inf), **_NAN}), HALF,
         assumption=_ID),
    Case(_MERGE, "probe: both -inf",
         lambda i: _merge(i, -math.inf, -math.inf, (0.0, -math.inf), _NAN), HALF, assumption=_ID),
)  # fmt: skip
