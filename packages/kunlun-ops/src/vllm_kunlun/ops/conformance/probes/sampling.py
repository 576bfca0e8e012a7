# SPDX-License-Identifier: Apache-2.0
"""Sampling: which tokens come at all, over many draws of one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome

__all__ = ["SAMPLING"]

DRAWS = 512
"""All of them miss a token of probability 0.04 once in a thousand million runs."""
FLOAT32 = (torch.float32,)


def _filters(inputs: Inputs, top_k: int | None, top_p: float | None) -> dict[str, Tensor | bool]:
    keywords: dict[str, Tensor | bool] = {"deterministic": True}
    if top_k is not None:
        keywords["top_k"] = inputs.tensor([top_k] * DRAWS, torch.int32)
    if top_p is not None:
        keywords["top_p"] = inputs.tensor([top_p] * DRAWS, torch.float32)
    return keywords


def _drawn(wanted: set[int]) -> Callable[[Outcome], float]:
    def judge(outcome: Outcome) -> float:
        return float(set(outcome["return"].flatten().tolist()) != wanted)

    return judge


def _tokens(
    inputs: Inputs,
    probabilities: Sequence[float],
    wanted: set[int],
    otherwise: Mapping[str, set[int]],
    *,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Call:
    """The tokens that come must be exactly ``wanted``."""
    probs = inputs.tensor([probabilities] * DRAWS, torch.float32)
    return Call(
        (probs,),
        _filters(inputs, top_k, top_p),
        judge=_drawn(wanted),
        otherwise={meaning: _drawn(tokens) for meaning, tokens in otherwise.items()},
    )


def _ids(inputs: Inputs, *, top_k: int | None = None, top_p: float | None = None) -> Call:
    def like(dtype: torch.dtype) -> Callable[[Outcome], float]:
        def judge(outcome: Outcome) -> float:
            ids = outcome["return"]
            return float(ids.dtype != dtype or ids.shape != (DRAWS,))

        return judge

    probs = inputs.tensor([[0.5, 0.3, 0.2]] * DRAWS, torch.float32)
    keywords = _filters(inputs, top_k, top_p)
    return Call((probs,), keywords, judge=like(torch.int32),
                otherwise={"int64 [B]": like(torch.int64)})  # fmt: skip


_P, _K, _KP = (
    f"kunlun_ops.{name}_sampling_from_probs" for name in ("top_p", "top_k", "top_k_top_p")
)
_EIGHT = [0.2, 0.18, 0.16, 0.14, 0.12, 0.1, 0.06, 0.04]
SAMPLING = (
    Case(_KP, "probe: k = 2 and p = 0.5",
         lambda i: _tokens(i, [0.4, 0.3, 0.2, 0.1], {0},
                           {"the nucleus is taken of all tokens": {0, 1}}, top_k=2, top_p=0.5),
         FLOAT32, assumption="sampling-joint-order"),
    Case(_P, "probe: p = 0.5",
         lambda i: _tokens(i, [0.5, 0.3, 0.2], {0},
                           {"the token after the threshold is in": {0, 1}}, top_p=0.5),
         FLOAT32, assumption="sampling-nucleus"),
    Case(_P, "probe: dtype", lambda i: _ids(i, top_p=0.9), FLOAT32, assumption="sampling-ids"),
    Case(_K, "probe: dtype", lambda i: _ids(i, top_k=2), FLOAT32, assumption="sampling-ids"),
    Case(_KP, "probe: dtype", lambda i: _ids(i, top_k=2, top_p=0.9), FLOAT32,
         assumption="sampling-ids"),
    Case(_K, "probe: k = V", lambda i: _tokens(i, _EIGHT, set(range(8)), {}, top_k=8), FLOAT32,
         assumption="sampling-full-k"),
    Case(_KP, "probe: k = V", lambda i: _tokens(i, _EIGHT, set(range(8)), {}, top_k=8, top_p=1.0),
         FLOAT32, assumption="sampling-full-k"),
)  # fmt: skip
