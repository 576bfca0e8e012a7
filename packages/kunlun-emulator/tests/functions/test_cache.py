# SPDX-License-Identifier: Apache-2.0
"""Writing the paged cache: any slots against the cases' loop, by hand, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.kunlun_ops import reshape_and_cache, reshape_and_cache_flash
from vllm_kunlun.ops.conformance import Case, run
from vllm_kunlun.ops.conformance.cases.cache import BLOCK_SIZE, BLOCKS, write


def test_by_hand() -> None:
    """Slot 5 of pages of 4 is the second place of page 1."""
    caches = [torch.zeros(3, 1, 4, 2) for _ in range(2)]
    new = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    reshape_and_cache_flash(new, new * 10, *caches, torch.tensor([5, -1]), BLHD_LAYOUT=False)
    assert caches[0][1, 0, 1].tolist() == [1.0, 2.0]
    assert caches[1][1, 0, 1].tolist() == [10.0, 20.0]
    assert [cache.count_nonzero().item() for cache in caches] == [2, 2]


def test_the_older_function_by_hand() -> None:
    caches = [torch.zeros(3, 1, 4, 2) for _ in range(2)]
    new = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    reshape_and_cache(new, new * 10, *caches, torch.tensor([5, -1]))
    assert caches[0][1, 0, 1].tolist() == [1.0, 2.0]
    assert caches[1][1, 0, 1].tolist() == [10.0, 20.0]
    assert [cache.count_nonzero().item() for cache in caches] == [2, 2]


def test_the_older_function_refuses_alternating_pages() -> None:
    """It looks at no stride, so it would write into the other cache."""
    pages, new = torch.zeros(3, 2, 1, 4, 2), torch.ones(1, 1, 2)
    with pytest.raises(VendorContractError, match="'key_cache' must be contiguous"):
        reshape_and_cache(new, new, *pages.unbind(1), torch.tensor([5]))


def test_slots_of_both_dtypes_one_after_the_other() -> None:
    for dtype in (torch.int64, torch.int32):
        cache, new = torch.zeros(3, 1, 4, 2), torch.ones(1, 1, 2)
        slots = torch.tensor([6], dtype=dtype)
        reshape_and_cache_flash(new, new, cache, cache, slots, BLHD_LAYOUT=False)
        assert cache[1, 0, 2].tolist() == [1.0, 1.0]
        assert cache.sum() == 2


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(0, 20),
    heads_first=st.booleans(),
    alternating=st.booleans(),
    slot_dtype=st.sampled_from([torch.int64, torch.int32]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    random=st.randoms(use_true_random=False),
)
def test_any_slots(
    tokens: int, heads_first: bool, alternating: bool, slot_dtype: torch.dtype, dtype: torch.dtype,
    random: Random,
) -> None:  # fmt: skip
    slots = [
        slot if random.random() > 0.2 else -1
        for slot in random.sample(range(BLOCKS * BLOCK_SIZE), tokens)
    ]
    case = Case(
        "kunlun_ops.reshape_and_cache_flash",
        f"slots {slots}",
        lambda i: write(
            i, slots, slot_dtype=slot_dtype, heads_first=heads_first, alternating=alternating
        ),
        tolerances={dtype: 0.0},
    )
    result = run(case, dtype)
    assert result.passed, result.message


def test_slots_changed_in_place_are_seen() -> None:
    """The plan of a step must not outlive the slots that it was made from."""
    caches = [torch.zeros(4, 1, 2, 2) for _ in range(2)]
    new, slots = torch.ones(2, 1, 2), torch.tensor([0, 1])
    reshape_and_cache_flash(new, new, *caches, slots, BLHD_LAYOUT=False)
    slots += 4
    reshape_and_cache_flash(new * 2, new * 2, *caches, slots, BLHD_LAYOUT=False)
    assert caches[0][:, 0, 0, 0].tolist() == [1.0, 0.0, 2.0, 0.0]


VIOLATIONS: dict[str, tuple[int, str, Callable[[torch.Tensor], Any]]] = {
    "key dtype": (0, "key", lambda t: t.double()),
    "key dims": (0, "key", lambda t: t[0]),
    "key not contiguous": (0, "key", lambda t: t.transpose(0, 1).contiguous().transpose(0, 1)),
    "value tokens": (1, "value", lambda t: t[:2]),
    "value None": (1, "value", lambda t: None),
    "cache dtype": (2, "key_cache", lambda t: t.half()),
    "cache heads": (2, "key_cache", lambda t: t[:, :1]),
    "cache page not contiguous": (2, "key_cache", lambda t: t[..., ::2]),
    "value cache dims": (3, "value_cache", lambda t: t[0]),
    "value cache blocks": (3, "value_cache", lambda t: t[:2]),
    "slot dtype": (4, "slot_mapping", lambda t: t.float()),
    "slot count": (4, "slot_mapping", lambda t: t[:1]),
    "slot beyond the cache": (4, "slot_mapping", lambda t: t + 100),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_refuses(case: str) -> None:
    index, argument, change = VIOLATIONS[case]
    call = [torch.randn(3, 2, 8), torch.randn(3, 2, 8), torch.zeros(5, 2, 4, 8),
            torch.zeros(5, 2, 4, 8), torch.arange(3)]  # fmt: skip
    call[index] = change(call[index])
    with pytest.raises(VendorContractError) as raised:
        reshape_and_cache_flash(*call, BLHD_LAYOUT=False)
    assert (raised.value.function, raised.value.argument) == ("reshape_and_cache_flash", argument)
