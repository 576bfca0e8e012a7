# SPDX-License-Identifier: Apache-2.0
"""Pools of recurrent states, one row a request, whose rows may lie apart in memory."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import VendorContractError, check_tensor

__all__ = ["check_pool"]


def check_pool(
    function: str,
    argument: str,
    pool: torch.Tensor,
    dtypes: tuple[torch.dtype, ...],
    row: tuple[int | None, ...],
) -> None:
    """Hold that every row of a pool is contiguous; rows may lie apart.

    vLLM keeps several kinds of state in one page.

    Shapes: pool ``[rows, *row]``; None in ``row`` stands for any size.
    Raises: VendorContractError: it is of another dtype or shape, or its rows overlap.
    """
    first = pool[:1] if isinstance(pool, torch.Tensor) and pool.dim() else pool
    check_tensor(function, argument, first, dtypes, 1 + len(row))
    shape = tuple(pool.shape[1:])
    if any(want not in (None, came) for want, came in zip(row, shape, strict=True)):
        raise VendorContractError(function, argument, f"of rows {row}", shape)
    if pool.shape[0] > 1 and pool.stride(0) < pool[0].numel():
        raise VendorContractError(
            function, argument, "of rows that do not overlap", f"strides {pool.stride()}"
        )
