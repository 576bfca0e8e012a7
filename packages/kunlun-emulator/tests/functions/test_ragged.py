# SPDX-License-Identifier: Apache-2.0
"""Requests one after another: by hand, and what is refused."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.functions.ragged import ragged_rows


def cumulative(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def test_by_hand() -> None:
    """Lengths 2, 0 and 3, of which 3 is the longest that may come."""
    request, place = ragged_rows("f", "cu", cumulative(0, 2, 2, 5), 3, 3)
    assert request.tolist() == [0, 0, 2, 2, 2]
    assert place.tolist() == [0, 1, 0, 1, 2]
    assert request.dtype == place.dtype == torch.int64


def test_no_rows() -> None:
    request, place = ragged_rows("f", "cu", cumulative(0, 0), 1, 3)
    assert request.numel() == place.numel() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        cumulative(0, 2, 2, 5).long(),
        cumulative(0, 2, 5),
        cumulative(1, 2, 2, 5),
        cumulative(0, 3, 2, 5),
        cumulative(0, 2, 2, 6),
        cumulative(0, 2, 2, 5)[None],
        None,
    ],
    ids=["int64", "too few", "not from 0", "falling", "too long", "two dimensions", "none"],
)
def test_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(VendorContractError) as raised:
        ragged_rows("f", "cu", wrong, 3, 3)
    assert (raised.value.function, raised.value.argument) == ("f", "cu")
