# SPDX-License-Identifier: Apache-2.0
"""Attention over two disjoint sets of keys, put together by their log-sum-exps."""

from __future__ import annotations

import math

import torch

from vllm_kunlun.ops.emulator.contract import check_same, check_shape, check_tensor

__all__ = ["attention_merge_stage"]


def attention_merge_stage(
    prefix_output: torch.Tensor,
    prefix_lse: torch.Tensor,
    suffix_output: torch.Tensor,
    suffix_lse: torch.Tensor,
    output: torch.Tensor,
    output_lse: torch.Tensor,
    /,
) -> None:
    """Combine attention over two disjoint sets of keys by their log-sum-exps.

    ``out = (e^(lp-m) p + e^(ls-m) s) / (e^(lp-m) + e^(ls-m))``, ``m = max(lp, ls)``; an infinite
    log-sum-exp counts as an empty set. Shapes: outputs ``[T, H, D]``, lse float32 ``[H, T]``.
    """
    name = "attention_merge_stage"
    check_tensor(name, "prefix_output", prefix_output, dims=3)
    check_same(name, "suffix_output", suffix_output, prefix_output)
    check_same(name, "output", output, prefix_output)
    tokens, heads, _ = prefix_output.shape
    for argument, value in (
        ("prefix_lse", prefix_lse), ("suffix_lse", suffix_lse), ("output_lse", output_lse)
    ):  # fmt: skip
        check_tensor(name, argument, value, (torch.float32,))
        check_shape(name, argument, value, (heads, tokens))
    lses = [lse.masked_fill(lse.isposinf(), -math.inf) for lse in (prefix_lse, suffix_lse)]
    merged = torch.logaddexp(lses[0], lses[1])
    total = torch.zeros(output.shape)
    for part, lse in zip((prefix_output, suffix_output), lses, strict=True):
        weight = torch.exp(lse - merged).masked_fill_(lse.isneginf(), 0.0).T.unsqueeze(-1)
        # A side without keys may hold anything, NaN too.
        total += torch.where(weight > 0, part * weight, 0.0)
    output.copy_(total)
    output_lse.copy_(merged)
