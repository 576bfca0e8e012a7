# SPDX-License-Identifier: Apache-2.0
"""What each kind of node becomes, one graph of a few nodes at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
import pytest
import torch
import torch.nn.functional as F
from torch import fx

from vllm_kunlun.emulator.device.tape import Recorder, are_apart, own_copy
from vllm_kunlun.emulator.device.watch import storage_of
from vllm_kunlun.emulator.replay import current, replayable
from vllm_kunlun.ops.compiled import compiled
from vllm_kunlun.ops.torch_ops.registration import custom_op
from vllm_kunlun.platforms.compiler import call_directly

_table = torch.arange(20.0).view(4, 5)


@custom_op(fake=lambda input: torch.empty_like(input), namespace="kunlun_tape_test")
def from_table(input: torch.Tensor) -> torch.Tensor:
    """Returns what it keeps for itself, and fills it anew for other values."""
    _table.copy_(input * 2)
    return _table


@custom_op(mutates_args=("x",), namespace="kunlun_tape_test")
def negate_(x: torch.Tensor) -> None:
    x.numpy()[:] *= -1  # torch sees nothing of it


@custom_op(namespace="kunlun_tape_test")
def no_tensor(number: int) -> None:
    """Who knows what."""


def negated(x: torch.Tensor) -> torch.Tensor:
    half = x[:2]
    negate_(half)
    return half


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def record(function: Callable[..., Any], *given: torch.Tensor) -> tuple[Recorder, Any]:
    graph = fx.symbolic_trace(function)
    call_directly(graph)
    recorder = Recorder(graph, {storage_of(each) for each in given})
    return recorder, recorder.run(*given)


@pytest.mark.parametrize(
    ("calls", "function"),
    [
        (0, lambda x: x.view(-1)[2:].unflatten(0, (2, -1))),
        (0, lambda x: x.contiguous()),
        (0, lambda x: x.float().reshape(-1)),
        (0, lambda x: x.view(x.shape[1], x.size(0))),
        (1, lambda x: x.t().contiguous()),
        (1, lambda x: x.t().reshape(-1)),
        (1, lambda x: x.double()),
        (2, lambda x: F.relu(x) + 1),
        (1, lambda x: x.chunk(2)[1].max(dim=-1)[0]),
        (1, lambda x: x.add_(1)),
        (1, lambda x: torch.zeros(x.shape[0])),
        (1, lambda x: from_table(x)),
        (1, negated),
    ],
    ids=["views", "contiguous", "dtype it has", "shapes", "transposed", "reshaped", "converted",
         "two ops", "two results", "in place", "new", "an op's own table", "an op that writes"],
)  # fmt: skip
def test_work_is_done_again_and_views_are_kept(calls: int, function: Callable[..., Any]) -> None:
    x = torch.randn(4, 5)
    recorder, result = record(function, x)
    assert recorder.obstacle is None
    assert len(recorder.calls) == calls
    for _ in range(2):
        x.copy_(torch.randn(4, 5))
        expected = function(x.clone()).clone()
        for call in recorder.calls:
            call()
        assert torch.equal(result, expected)


def test_what_an_op_keeps_for_itself_is_not_written_to() -> None:
    recorder, result = record(lambda x: from_table(x).add_(1), torch.ones(4, 5))
    for call in recorder.calls:
        call()
    assert (result == 3).all()
    assert (_table == 2).all()


def _doubled(x: torch.Tensor) -> tuple[torch.Tensor]:
    return (x * 2,)


@custom_op(mutates_args=("out",), namespace="kunlun_tape_test")
def add_doubled_(x: torch.Tensor, out: torch.Tensor) -> None:
    """Reads ``x`` by value."""
    add_(x, out)


@replayable
def add_(x: torch.Tensor, out: torch.Tensor) -> None:
    recording = current()
    values = _doubled(x) if recording is None else recording.kept((), (x,), lambda: _doubled(x))
    _add(values[0].numpy(), out.numpy())


@compiled(numba.void(numba.float32[::1], numba.float32[::1]))
def _add(x: Any, out: Any) -> None:
    for i in numba.prange(out.shape[0]):
        out[i] += x[i]


def of_an_input(x: torch.Tensor) -> torch.Tensor:
    out = x * 0
    for _ in range(3):
        add_doubled_(x, out)
    return out


def of_what_changes(x: torch.Tensor) -> torch.Tensor:
    own, out = x * 1, x * 0
    for _ in range(3):
        add_doubled_(own, out)
        own.add_(1)
    return out


def of_an_input_that_changes(x: torch.Tensor) -> torch.Tensor:
    out = x * 0
    for _ in range(3):
        add_doubled_(x, out)
        x.add_(1)
    return out


@pytest.mark.parametrize(
    ("refreshed", "function"),
    [(1, of_an_input), (3, of_what_changes), (3, of_an_input_that_changes)],
)
def test_what_is_made_of_an_input_is_looked_at_once_a_step(
    refreshed: int, function: Callable[..., Any]
) -> None:
    x = torch.ones(6)
    recorder, result = record(function, x)
    assert recorder.obstacle is None
    calls = recorder.once()
    assert sum(getattr(each, "__name__", "") == "refresh" for each in calls) == refreshed
    for value in (3.0, 8.0):
        x.fill_(value)
        expected = function(x.clone())
        for call in calls:
            call()
        assert torch.equal(result, expected)


def test_memory_that_is_taken_is_counted_once() -> None:
    x = torch.randn(4, 5)
    recorder, result = record(lambda x: torch.empty_like(x).copy_(x.view(4, 5)), x)
    assert recorder.bytes == 4 * 5 * 4
    assert recorder.written == {storage_of(result)}


@pytest.mark.parametrize("function", [lambda x: x[1:].add_(1), negated])
def test_an_input_that_is_written_is_known(function: Callable[..., Any]) -> None:
    x = torch.randn(4, 5)
    recorder, _ = record(function, x)
    assert storage_of(x) in recorder.written


@pytest.mark.parametrize(
    ("obstacle", "function"),
    [
        ("numbers out of tensors", lambda x: x * x.sum().item()),
        ("numbers out of tensors", lambda x: x * torch.equal(x, x)),
        ("depends on values", lambda x: x.nonzero()),
        ("an effect that is not seen", lambda x: (x * 2, no_tensor(x.dim()))[0]),
    ],
    ids=["item", "equal", "nonzero", "a switch"],
)
def test_what_cannot_be_recorded_says_why(obstacle: str, function: Callable[..., Any]) -> None:
    x = torch.rand(4, 5)
    recorder, result = record(function, x)
    assert recorder.obstacle is not None
    assert obstacle in recorder.obstacle
    assert torch.equal(result, function(x)), "and it runs to its end"


def test_copies_keep_strides() -> None:
    x = torch.randn(4, 5).t()
    assert own_copy(x).stride() == x.stride()
    assert torch.equal(own_copy(x), x)


def test_tensors_that_lie_apart() -> None:
    x = torch.randn(4, 5)
    assert are_apart([x[:2], torch.randn(2), torch.empty(0), torch.empty(0), x.new_ones(1)])
    assert not are_apart([x[:2], x[2:]])
    assert not are_apart([torch.randn(1).expand(3)])
