# SPDX-License-Identifier: Apache-2.0
"""The vocabulary-parallel mask."""

from __future__ import annotations

import torch

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs

__all__ = ["EMBEDDING"]

INTS = (torch.float32,)


def _mask(
    inputs: Inputs,
    ids: list[int],
    org: tuple[int, int],
    padding: int,
    added: tuple[int, int],
    dtype: torch.dtype,
) -> Call:
    """This rank's rows: the ids of ``org``, ``padding`` unused ones, the ids of ``added``."""
    rows = [*range(*org), *[None] * padding, *range(*added)]
    local = [rows.index(token) if token in rows else 0 for token in ids]
    absent = [token not in rows for token in ids]
    arguments = (inputs.tensor(ids, dtype), *org, padding, *added)
    expected = {
        "return.0": torch.tensor(local, dtype=dtype),
        "return.1": torch.tensor(absent, dtype=torch.bool),
    }
    return Call(arguments, expected=expected)


_NAME = "xspeedgate_ops.get_masked_input_and_mask"
SOME = list(range(40))
EMBEDDING = (
    Case(
        _NAME,
        "added ids after padding",
        lambda i: _mask(i, SOME, (8, 16), 3, (32, 36), torch.int64),
        INTS,
    ),
    Case(_NAME, "int32 ids", lambda i: _mask(i, SOME, (8, 16), 3, (32, 36), torch.int32), INTS),
    Case(_NAME, "no added ids", lambda i: _mask(i, SOME, (0, 20), 0, (40, 40), torch.int64), INTS),
    Case(_NAME, "none here", lambda i: _mask(i, SOME, (50, 50), 4, (60, 60), torch.int64), INTS),
    Case(_NAME, "no tokens", lambda i: _mask(i, [], (8, 16), 3, (32, 36), torch.int64), INTS),
)
