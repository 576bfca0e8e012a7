# SPDX-License-Identifier: Apache-2.0
"""Per-request values spread over the tokens of a batch whose requests differ in length."""

from __future__ import annotations

import torch

__all__ = ["counts", "expand", "owners", "starts"]


def starts(ends: torch.Tensor) -> torch.Tensor:
    """First token of each request.

    Shapes: ends int ``[B]``, inclusive cumulative lengths -> ``[B]``.
    """
    return torch.nn.functional.pad(ends[:-1], (1, 0))


def counts(ends: torch.Tensor) -> torch.Tensor:
    """Tokens of each request.

    Shapes: ends int ``[B]``, inclusive cumulative lengths -> ``[B]``.
    """
    return ends - starts(ends)


def owners(ends: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """The request of each token; ``num_tokens`` spares a device sync.

    Shapes: ends int ``[B]``, inclusive cumulative lengths -> int64 ``[num_tokens]``.
    """
    tokens = torch.arange(num_tokens, dtype=ends.dtype, device=ends.device)
    return torch.searchsorted(ends, tokens, right=True)


def expand(values: torch.Tensor, ends: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """``values[request of t]`` for each token ``t``.

    Shapes: values and ends ``[B]`` -> ``[num_tokens]``.
    """
    return values[owners(ends, num_tokens)]
