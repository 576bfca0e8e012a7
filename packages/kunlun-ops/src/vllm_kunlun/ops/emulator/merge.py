# SPDX-License-Identifier: Apache-2.0
"""Attention over two disjoint sets of keys, put together by their log-sum-exps."""

from __future__ import annotations

import math

import torch

from vllm_kunlun.ops.emulator.contract import check_same, check_shape, check_tensor

__all__ = ["attention_merge_stage", "merge"]


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
    total, lse = merge(
        *((part.float(), lse.T) for part, lse in (
            (prefix_output, prefix_lse), (suffix_output, suffix_lse)
        ))
    )  # fmt: skip
    output.copy_(total)
    output_lse.copy_(lse.T)


def merge(
    first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pairs of output ``[..., D]`` and log-sum-exp ``[...]`` into one, in float32."""
    lses = [lse.masked_fill(lse.isposinf(), -math.inf) for _, lse in (first, second)]
    merged = torch.logaddexp(lses[0], lses[1])
    total = torch.zeros_like(first[0])
    for (part, _), lse in zip((first, second), lses, strict=True):
        weight = torch.exp(lse - merged).masked_fill_(lse.isneginf(), 0.0).unsqueeze(-1)
        # A side without keys may hold anything, NaN too.
        total += torch.where(weight > 0, part * weight, 0.0)
    return total, merged
