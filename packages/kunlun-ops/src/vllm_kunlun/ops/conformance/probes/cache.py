# SPDX-License-Identifier: Apache-2.0
"""Attention whose result can be read off: queries of zero, and values constant in a token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Inputs

__all__ = ["BLOCK_SIZE", "HALF", "HEADS", "KV_HEADS", "SIZE", "constant", "packed", "pages"]

HEADS, KV_HEADS, SIZE, BLOCK_SIZE = 4, 2, 64, 16
HALF = (torch.float16,)
"""A dtype that every device has; the values below are exact or nearly so in it."""


def constant(rows: Sequence[float], heads: int = HEADS) -> Tensor:
    """``[rows, heads, SIZE]`` in float64, each row of one number: an expected output."""
    return torch.tensor(rows, dtype=torch.float64).view(-1, 1, 1).expand(-1, heads, SIZE)


def packed(inputs: Inputs, rows: Sequence[float], heads: int = KV_HEADS) -> Tensor:
    """``[rows, heads, SIZE]`` on the device, each row of one number."""
    return constant(rows, heads).to(inputs.dtype).contiguous()


def pages(inputs: Inputs, rows: Sequence[float], rest: float = 0.0) -> Tensor:
    """A cache of two pages with ``rows`` at the start of page 1, and ``rest`` everywhere else."""
    cache = torch.full((2, KV_HEADS, BLOCK_SIZE, SIZE), rest, dtype=torch.float64)
    cache[1, :, : len(rows)] = constant(rows, KV_HEADS).transpose(0, 1)
    return cache.to(inputs.dtype)
