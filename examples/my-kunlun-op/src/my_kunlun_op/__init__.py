# SPDX-License-Identifier: Apache-2.0
"""One op, ``torch.ops.my_kunlun_op.add_norm_rows``: importing this module registers it."""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.ops import custom_op, vendor_ops

__all__ = ["add_norm_rows"]


def _rows_of_x(x: Tensor, rows: list[int]) -> Tensor:
    return x.new_empty(len(rows), x.shape[1])


@custom_op(namespace="my_kunlun_op", mutates_args=("residual",), fake=_rows_of_x)
def add_norm_rows(
    x: Tensor, residual: Tensor, weight: Tensor, rows: list[int], eps: float, bias: Tensor | None
) -> Tensor:
    """``residual += x``, then ``rms_norm(residual)[rows] * weight + bias``.

    Shapes: x and residual ``[T, hidden]``; weight and bias ``[hidden]``; the result
    ``[len(rows), hidden]``.
    """
    normalised = torch.empty_like(x)
    vendor_ops.add_rmsnorm(
        x, residual, residual_output=residual, weight=weight, eps=eps, output=normalised
    )
    chosen = normalised[rows]
    return chosen if bias is None else chosen + bias
