# SPDX-License-Identifier: Apache-2.0
"""A copy to the host that does not block is there once the host has waited for it, not before."""

import pytest
import torch

from vllm_kunlun.emulator.rehearsal.faults import ReadBeforeWaitError


@pytest.fixture
def x(rehearsal):
    return torch.arange(4, dtype=torch.int32, device="cuda")


@pytest.fixture
def host(rehearsal):
    return torch.zeros(4, dtype=torch.int32, device="cpu", pin_memory=True)


READS = [
    lambda host: host.tolist(),
    lambda host: host.numpy(),
    lambda host: host + 1,
    lambda host: host[0].item(),
    lambda host: host.to("cuda"),
]


@pytest.mark.parametrize("read", READS, ids=["tolist", "numpy", "op", "item", "to"])
def test_a_read_before_the_wait_is_caught(x, host, read):
    host.copy_(x, non_blocking=True)
    with pytest.raises(ReadBeforeWaitError, match=r"test_streams\.py"):
        read(host)
    torch.cuda.synchronize()
    read(host)


def test_an_array_made_before_holds_rubbish_until_the_wait(x, host):
    array = host.numpy()
    host.copy_(x, non_blocking=True)
    assert set(array) == {torch.iinfo(torch.int32).max}
    torch.cuda.synchronize()
    assert array.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_rubbish_is_no_value_that_could_be_right(rehearsal, dtype):
    host = torch.zeros(2, dtype=dtype, pin_memory=True)
    array = host.numpy()
    host.copy_(torch.zeros(2, dtype=dtype, device="cuda"), non_blocking=True)
    assert not (array == 0).any()
    torch.cuda.synchronize()
    assert (array == 0).all()


def test_the_copy_takes_the_values_of_its_time(x, host):
    host.copy_(x, non_blocking=True)
    x.zero_()
    torch.cuda.synchronize()
    assert host.tolist() == [0, 1, 2, 3]


def test_an_event_covers_what_came_before_it(x, host):
    later = torch.zeros_like(host, pin_memory=True)
    host.copy_(x, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    later.copy_(x, non_blocking=True)
    event.synchronize()
    assert host.tolist() == [0, 1, 2, 3]
    with pytest.raises(ReadBeforeWaitError):
        later.tolist()
    torch.cuda.current_stream().synchronize()
    assert later.tolist() == [0, 1, 2, 3]


def test_an_event_of_another_stream_covers_only_what_that_stream_waited_for(x, host):
    side, event = torch.cuda.Stream(), torch.cuda.Event()
    host.copy_(x, non_blocking=True)
    event.record(side)
    event.synchronize()
    with pytest.raises(ReadBeforeWaitError):
        host.tolist()
    side.wait_stream(torch.cuda.current_stream())
    side.record_event(event)
    event.synchronize()
    assert host.tolist() == [0, 1, 2, 3]


def test_work_goes_to_the_stream_in_force(x, host):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        assert torch.cuda.current_stream() is side
        host.copy_(x, non_blocking=True)
    assert torch.cuda.current_stream() is torch.cuda.default_stream()
    torch.cuda.current_stream().synchronize()
    with pytest.raises(ReadBeforeWaitError):
        host.tolist()
    side.synchronize()
    assert host.tolist() == [0, 1, 2, 3]


def test_one_stream_waits_for_an_event_of_another(x, host):
    side, event = torch.cuda.Stream(), torch.cuda.Event()
    with torch.cuda.stream(side):
        host.copy_(x, non_blocking=True)
        event.record()
    main = torch.cuda.current_stream()
    main.wait_event(event)
    main.synchronize()
    assert host.tolist() == [0, 1, 2, 3]


def test_an_event_that_was_asked_and_has_passed_needs_no_wait(x, host, asked):
    host.copy_(x, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    assert event.query()
    assert host.tolist() == [0, 1, 2, 3]
    assert not any(kind == "wait" for kind, _ in asked())


def test_an_event_that_no_work_of_the_model_precedes_has_passed(x, asked):
    def waits():
        return sum(n for (kind, _), n in asked().items() if kind == "wait")

    event, weight = torch.cuda.Event(), torch.ones(4, 4, device="cuda")
    torch.cuda.synchronize()
    asked()
    x.add_(1)
    event.record()
    event.synchronize()
    assert waits() == 0
    weight @ weight
    event.record()
    event.synchronize()
    assert waits() == 1
    event.synchronize()
    assert waits() == 0


def test_waits_are_counted_with_their_place(x, host, asked):
    asked()
    host.copy_(x, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    (copy,), (wait,) = (
        [(place, n) for (kind, place), n in asked_now.items() if kind == wanted]
        for asked_now in [asked()]
        for wanted in ("copy to host", "wait")
    )
    assert copy[1] == wait[1] == 1
    assert "test_streams.py" in copy[0]
    assert "test_streams.py" in wait[0]


def test_times_between_events_are_milliseconds(rehearsal):
    one, two = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    one.record()
    two.record()
    assert 0 <= one.elapsed_time(two) < 60_000
