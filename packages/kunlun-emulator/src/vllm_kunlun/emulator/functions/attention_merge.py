# SPDX-License-Identifier: Apache-2.0
"""Attention over two disjoint sets of keys, put together by their log-sum-exps."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import check_same, check_shape, check_tensor

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

    ``out = (e^(lp-m) p + e^(ls-m) s) / (e^(lp-m) + e^(ls-m))`` and ``lse = m + ln(that sum)`` with
    ``m = max(lp, ls)``, as it stands: -inf on both sides gives NaN. The library reads ``T`` and
    ``H`` off the outputs alone.

    Shapes: outputs ``[T, H, D]``, lse float32 ``[T, H]``; output and output_lse are written.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 2, ``kunlun_ops.attention_merge_stage``.
    """
    name = "attention_merge_stage"
    check_tensor(name, "prefix_output", prefix_output, dims=3)
    check_same(name, "suffix_output", suffix_output, prefix_output)
    check_same(name, "output", output, prefix_output)
    for argument, value in (
        ("prefix_lse", prefix_lse), ("suffix_lse", suffix_lse), ("output_lse", output_lse)
    ):  # fmt: skip
        check_tensor(name, argument, value, (torch.float32,))
        check_shape(name, argument, value, prefix_output.shape[:2])
    largest = torch.maximum(prefix_lse, suffix_lse)
    prefix, suffix = (torch.exp(lse - largest) for lse in (prefix_lse, suffix_lse))
    total = prefix + suffix
    merged = prefix_output * (prefix / total).unsqueeze(-1)
    merged += suffix_output * (suffix / total).unsqueeze(-1)
    output.copy_(merged)
    output_lse.copy_(largest + total.log())
