# SPDX-License-Identifier: Apache-2.0
"""Two halves of attention merged: by hand, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.kunlun_ops import (
    attention_merge_stage,
)
from vllm_kunlun.ops.conformance import Inputs
from vllm_kunlun.ops.conformance.attention_formula import attend
from vllm_kunlun.ops.conformance.cases.attention import merge

Tensor = torch.Tensor


def merge_call(tokens: int) -> list[Tensor]:
    return list(merge(Inputs(0, torch.float32), tokens).args)


def test_merge_undoes_a_split_of_the_keys() -> None:
    """Attention over keys 0..5 and 6..8, merged, is attention over all of them."""
    q, k, v = torch.randn(4, 2, 16), torch.randn(9, 2, 16), torch.randn(9, 2, 16)
    whole, whole_lse = attend(q, k, v, 0.2, causal=False)
    halves = [attend(q, k[part], v[part], 0.2, causal=False) for part in (slice(6), slice(6, 9))]
    call = [t.float().contiguous() for out, lse in halves for t in (out, lse.T)]
    call += [torch.empty_like(call[0]), torch.empty_like(call[1])]
    attention_merge_stage(*call)
    torch.testing.assert_close(call[4].double(), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(call[5].double(), whole_lse.T, rtol=1e-5, atol=1e-6)


def test_two_sides_without_keys() -> None:
    """-1e30 on both sides is harmless and -inf is not: the caller clamps."""
    for lse, nothing in ((-1e30, False), (-math.inf, True)):
        call = [torch.zeros(1, 2, 4), torch.full((1, 2), lse)] * 2
        call += [torch.empty(1, 2, 4), torch.empty(1, 2)]
        attention_merge_stage(*call)
        assert bool(call[4].isnan().all()) == nothing == bool(call[5].isnan().all())
        assert nothing or (not call[4].any() and bool((call[5] < -1e29).all()))


def test_merge_into_its_own_input() -> None:
    call = merge_call(3)
    attention_merge_stage(*call)
    expected = call[4].clone()
    call[4] = call[0]
    attention_merge_stage(*call)
    torch.testing.assert_close(call[0], expected)


def _column_major(tensor: Tensor) -> Tensor:
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


@pytest.mark.parametrize(
    ("index", "argument", "change"),
    [
        (0, "prefix_output", lambda t: t.double()),
        (1, "prefix_lse", lambda t: t.half()),
        (2, "suffix_output", lambda t: t[:1]),
        (3, "suffix_lse", lambda t: t.T.contiguous()),
        (4, "output", _column_major),
        (5, "output_lse", lambda t: t[:1]),
        (5, "output_lse", lambda t: None),
    ],
)
def test_merge_refuses(index: int, argument: str, change: Callable[[Tensor], Any]) -> None:
    call = merge_call(4)
    call[index] = change(call[index])
    with pytest.raises(VendorContractError) as raised:
        attention_merge_stage(*call)
    assert (raised.value.function, raised.value.argument) == ("attention_merge_stage", argument)
