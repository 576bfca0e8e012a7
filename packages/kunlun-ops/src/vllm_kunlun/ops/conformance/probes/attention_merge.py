# SPDX-License-Identifier: Apache-2.0
"""Merging two attention results of which one or both saw no key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome
from vllm_kunlun.ops.conformance.cases.attention import EMPTY_LSE
from vllm_kunlun.ops.conformance.probes.cache import HALF, HEADS, constant, packed

__all__ = ["MERGE"]

PREFIX, SUFFIX = 3.0, 5.0


def _arguments(inputs: Inputs, values: tuple[float, float], lses: tuple[float, float]) -> list[Any]:
    """One token; the last two are the outputs."""
    sides = [packed(inputs, [value], HEADS) for value in values]
    scores = [inputs.tensor([[lse] * HEADS], torch.float32) for lse in lses]
    outputs = [torch.empty_like(sides[0]), torch.empty_like(scores[0])]
    return [sides[0], scores[0], sides[1], scores[1], *outputs]


def _one_empty(inputs: Inputs) -> Call:
    """Outputs of 3 and 5, of which the first saw no key."""

    def results(value: float, lse: float) -> Mapping[int, Tensor]:
        return {4: constant([value]), 5: torch.full((1, HEADS), lse, dtype=torch.float64)}

    return Call(
        tuple(_arguments(inputs, (PREFIX, SUFFIX), (EMPTY_LSE, 2.0))),
        expected=results(SUFFIX, 2.0),
        otherwise={"NaN": results(math.nan, math.nan)},
    )


def _both_empty(inputs: Inputs) -> Call:
    def judge(outcome: Outcome) -> float:
        zeros, low = not outcome[4].any(), bool((outcome[5] < EMPTY_LSE / 10).all())
        return 0.0 if zeros and low else math.inf

    def is_nan(outcome: Outcome) -> float:
        return 0.0 if bool(outcome[4].isnan().all()) else math.inf

    arguments = _arguments(inputs, (0.0, 0.0), (EMPTY_LSE, EMPTY_LSE))
    return Call(tuple(arguments), judge=judge, otherwise={"NaN": is_nan})


_MERGE, _ID = "kunlun_ops.attention_merge_stage", "merge-empty-side"
MERGE = (
    Case(_MERGE, "probe: one side without keys", _one_empty, HALF, assumption=_ID,
         finding="merge-lse", form="tokens-first"),
    Case(_MERGE, "probe: both sides without keys", _both_empty, HALF, assumption=_ID,
         finding="merge-lse", form="tokens-first"),
)  # fmt: skip
