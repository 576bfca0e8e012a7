# SPDX-License-Identifier: Apache-2.0
"""Pools of states: rows may lie apart in memory, and may not overlap."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.functions.state_pool import check_pool

DTYPES = (torch.float32,)


def pool(apart: int = 0) -> torch.Tensor:
    """Four rows ``[2, 3]``, each ``apart`` numbers behind the one before."""
    return torch.zeros(4, 6 + apart)[:, :6].unflatten(1, (2, 3))


@pytest.mark.parametrize("apart", [0, 5])
@pytest.mark.parametrize("row", [(2, 3), (None, 3), (None, None)], ids=str)
def test_taken(apart: int, row: tuple[int | None, ...]) -> None:
    check_pool("f", "pool", pool(apart), DTYPES, row)


def test_a_pool_without_rows_or_of_one_is_taken() -> None:
    check_pool("f", "pool", pool()[:0], DTYPES, (2, 3))
    check_pool("f", "pool", pool()[:1].expand(1, 2, 3), DTYPES, (2, 3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (torch.Tensor.half, "dtype"),
        (lambda x: x.transpose(1, 2), "contiguous"),
        (lambda x: x[:, :1].contiguous(), "of rows"),
        (lambda x: x[..., 0], "dimensional"),
        (lambda x: x[:1].expand(4, 2, 3), "overlap"),
        (lambda x: x.flatten().as_strided((4, 2, 3), (5, 3, 1)), "overlap"),
        (lambda x: None, "tensor"),
    ],
    ids=["float16", "transposed", "smaller rows", "fewer dimensions", "expanded", "overlapping",
         "none"],
)  # fmt: skip
def test_refused(change: Callable[[torch.Tensor], torch.Tensor], said: str) -> None:
    with pytest.raises(VendorContractError, match=said) as raised:
        check_pool("f", "pool", change(pool()), DTYPES, (2, 3))
    assert raised.value.argument == "pool"
