# SPDX-License-Identifier: Apache-2.0
"""Requests of several lengths laid one after another."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import check_range, check_shape, check_tensor, require

__all__ = ["ragged_rows"]


def ragged_rows(
    function: str, argument: str, cumulative: torch.Tensor, requests: int, longest: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's request and its place in that request.

    ``cumulative`` rises from 0 by the requests' lengths, of at most ``longest`` rows each.

    Shapes: cumulative int32 ``[requests + 1]`` -> two int64 of one element for each row.
    Raises: VendorContractError: ``cumulative`` does not rise from 0, or a length is above
        ``longest``.
    """
    check_tensor(function, argument, cumulative, (torch.int32,), 1)
    check_shape(function, argument, cumulative, (requests + 1,))
    wide = cumulative.long()
    require(int(wide[0]) == 0, function, argument, "cumulative lengths from 0", int(wide[0]))
    lengths = wide.diff()
    check_range(function, argument, lengths, longest + 1)
    request = torch.repeat_interleave(torch.arange(requests), lengths)
    return request, torch.arange(request.numel()) - wide[request]
