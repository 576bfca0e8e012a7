# SPDX-License-Identifier: Apache-2.0
"""What counts as work while torch is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator.device.watch import Watch, storage_of, storages
from vllm_kunlun.emulator.replay import Recording


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def watched(
    function: Callable[[torch.Tensor], Any], x: torch.Tensor, with_copies: bool = False
) -> tuple[Watch, Recording, Any]:
    recording = Recording({})
    with Watch(recording, with_copies) as watch:
        result = function(x)
    return watch, recording, result


@pytest.mark.parametrize(
    ("does_work", "function"),
    [
        (False, lambda x: x.t()[1:].t()),
        (False, lambda x: x.float().contiguous()),
        (False, lambda x: torch.empty_like(x)),
        (True, lambda x: x + 1),
        (True, lambda x: x.t().contiguous()),
        (True, lambda x: x.sum().item()),
    ],
    ids=["views", "copies of nothing", "memory", "sum", "copy", "number"],
)
def test_views_and_memory_are_no_work(does_work: bool, function: Callable[..., Any]) -> None:
    watch, recording, _ = watched(function, torch.randn(4, 5))
    assert watch.does_work is does_work
    assert not recording.calls


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.t().contiguous(),
        lambda x: x.double(),
        lambda x: x[1:].clone(),
        lambda x: torch.empty(5, 4).copy_(x.t()),
    ],
    ids=["contiguous", "converted", "clone", "copy_"],
)
def test_copies_may_be_calls_of_the_recording(function: Callable[..., Any]) -> None:
    x = torch.randn(4, 5)
    watch, recording, result = watched(function, x, with_copies=True)
    assert not watch.does_work
    assert len(recording.calls) == 1
    x.copy_(torch.randn(4, 5))
    recording.calls[0]()
    assert torch.equal(result, function(x))


def test_other_work_beside_copies_is_seen() -> None:
    watch, _, _ = watched(lambda x: x.t().contiguous().mul_(2), torch.randn(4, 5), True)
    assert watch.does_work


def test_what_is_written_is_known_by_its_storage() -> None:
    x = torch.randn(4, 5)
    watch, _, _ = watched(lambda x: x[1:].add_(1), x)
    assert watch.written == {storage_of(x)} == storages([x[2:], {"a": x}])
