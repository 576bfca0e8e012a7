# SPDX-License-Identifier: Apache-2.0
"""Vendor functions that take only the form of a card finding that is not the default.

The fakes of the vendor's libraries put them in the place of the functions that the environment
variable ``FAKE_VENDOR_FORMS`` names (with commas between).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["FORMS", "OTHER", "in_its_form"]

FORMS = "FAKE_VENDOR_FORMS"
"""The environment variable."""

Function = Callable[..., Any]


def _heads_first(real: Function) -> Function:
    """Log-sum-exps ``[H, T]``."""

    def attention_merge_stage(
        prefix: Tensor, prefix_lse: Tensor, suffix: Tensor, suffix_lse: Tensor, output: Tensor,
        output_lse: Tensor, /,
    ) -> None:  # fmt: skip
        tokens, heads, _ = output.shape
        lses = (prefix_lse, suffix_lse, output_lse)
        if any(lse.shape != (heads, tokens) or not lse.is_contiguous() for lse in lses):
            raise RuntimeError("lse is not [head_num, num_tokens]")
        turned = [lse.T.contiguous() for lse in lses]
        real(prefix, turned[0], suffix, turned[1], output, turned[2])
        output_lse.copy_(turned[2].T)

    return attention_merge_stage


def _one_head(real: Function) -> Function:
    """No cache of heads first with more than one KV head."""

    def reshape_and_cache_flash(*arguments: Tensor, BLHD_LAYOUT: bool = True) -> None:
        if not BLHD_LAYOUT and arguments[0].shape[1] > 1:
            raise RuntimeError("BLHD_LAYOUT=False: unsupported kv_head_num")
        real(*arguments, BLHD_LAYOUT=BLHD_LAYOUT)

    return reshape_and_cache_flash


def _no_choices(real: Function) -> Function:
    """No choices of experts beside int8."""

    def moe_fc(*, x: Tensor, topk_ids: Tensor | None = None, **arguments: Any) -> None:
        if x.dtype == torch.int8 and topk_ids is not None:
            raise RuntimeError("topk_ids: unsupported with int8")
        real(x=x, topk_ids=topk_ids, **arguments)

    return moe_fc


OTHER: dict[str, Callable[[Function], Function]] = {
    "kunlun_ops.attention_merge_stage": _heads_first,
    "kunlun_ops.moe_fc": _no_choices,
    "kunlun_ops.reshape_and_cache_flash": _one_head,
}
"""Full name of a function -> what makes its other form of the emulator's."""


def in_its_form(name: str, real: Function) -> Function:
    """``real``, or its other form if the environment names it."""
    return OTHER[name](real) if name in os.environ.get(FORMS, "").split(",") else real
