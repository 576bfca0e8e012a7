# SPDX-License-Identifier: Apache-2.0
"""Captured graphs compute what their code does, and each fault of a graph has its name."""

import gc
import itertools

import pytest
import torch
import torch.distributed as dist

from vllm_kunlun.emulator.rehearsal import graphs, places
from vllm_kunlun.emulator.rehearsal.faults import (
    GraphInputMovedError,
    GraphMemoryReusedError,
    GraphOutputKeptError,
    HostReadInCaptureError,
    HostValueBakedError,
)
from vllm_kunlun.ops import vendor_ops


@pytest.fixture
def x(rehearsal):
    return torch.arange(8, dtype=torch.float32, device="cuda")


@pytest.fixture
def one_rank():
    """A group of this process alone."""
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def normalised(x):
    out = torch.empty_like(x)
    vendor_ops.rmsnorm(x, torch.ones(x.shape[-1], device="cuda"), out, 1e-6)
    return out


def test_every_replay_computes_with_what_the_buffer_holds(piece, x):
    wrapped = piece(lambda x: (x + 1).mul_(2) - x)
    wrapped(x)
    for step in range(5):  # by the nodes and by the code in turns
        x.fill_(step)
        assert wrapped(x).tolist() == [step + 2.0] * 8


def test_a_vendor_function_is_one_node(piece, x, asked):
    wrapped = piece(lambda x: normalised(x.view(2, 4)))
    wrapped(x)
    asked()
    x.mul_(3)
    again = wrapped(x).clone()
    assert asked()["vendor", "kunlun_ops.rmsnorm"] == 1
    expected = x.view(2, 4) * (x.view(2, 4).square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    torch.testing.assert_close(again, expected)


def test_views_are_no_nodes(piece, x, asked):
    wrapped = piece(lambda x: x.view(2, 4).t()[1:].reshape(-1) + 1)
    wrapped(x)
    for _ in range(2):
        asked()
        wrapped(x)
        launches = {name: n for (kind, name), n in asked().items() if kind == "launch"}
        assert launches == {"aten::clone": 1, "aten::add": 1}


@pytest.mark.parametrize("replays", [0, 1])
def test_a_moved_input_is_caught(piece, x, replays):
    wrapped = piece(lambda x: x + 1)
    wrapped(x)
    for _ in range(replays * 2):
        wrapped(x)
    with pytest.raises(GraphInputMovedError, match=r"aten::add .* another address"):
        wrapped(x.clone())


def test_a_freed_input_is_caught_at_the_nodes(piece, rehearsal):
    wrapped = piece(lambda: held["x"] + 1)
    held = {"x": torch.ones(4, device="cuda")}
    wrapped()
    wrapped()
    del held["x"]
    with pytest.raises(GraphInputMovedError, match="was freed"):
        wrapped()


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu", non_blocking=True),
        lambda x: bool(x.any()),
        lambda x: int(x[0]),
        lambda x: x.nonzero(),
        lambda x: x[x > 2],
        lambda x: torch.equal(x, x + 1),
        lambda x: x.numpy(),
    ],
    ids=["item", "tolist", "cpu", "to", "bool", "int", "nonzero", "mask", "equal", "numpy"],
)
def test_a_read_of_the_host_inside_a_capture_is_caught(piece, x, read):
    with pytest.raises(HostReadInCaptureError, match=r"test_graphs\.py"):
        piece(read)(x)


def test_a_number_that_differs_at_replay_is_caught(piece, x):
    numbers = itertools.count()
    wrapped = piece(lambda x: x + next(numbers))
    wrapped(x)
    with pytest.raises(HostValueBakedError, match=r"argument 1 of aten::add .* was 0 .* is 1 now"):
        wrapped(x)


def test_a_length_that_differs_at_replay_is_caught(piece, x):
    lengths = iter((8, 4))
    wrapped = piece(lambda x: x[: next(lengths)] * 2)
    wrapped(x)
    with pytest.raises(HostValueBakedError, match=r"had shape \(8,\) .* has \(4,\) now"):
        wrapped(x)


def test_a_length_tensor_of_the_host_that_differs_at_replay_is_caught(piece, x):
    lengths = torch.tensor([0, 4])
    work = graphs.Work("vendor", "a.function", lambda x, lengths_cpu: x + 1, (x, lengths), {})
    wrapped = piece(lambda: graphs.active().meet(work))
    wrapped()
    lengths[1] = 3
    with pytest.raises(HostValueBakedError, match=r"was \[0, 4\] .* is \[0, 3\] now"):
        wrapped()


def test_another_path_is_caught(piece, x):
    paths = iter((False, True))
    wrapped = piece(lambda x: x * 2 if next(paths) else x + 2)
    wrapped(x)
    with pytest.raises(HostValueBakedError, match=r"with aten::add where its code now calls"):
        wrapped(x)


@pytest.mark.parametrize(("first", "later"), [(1, 2), (2, 1)], ids=["longer", "shorter"])
def test_a_path_of_another_length_is_caught(piece, x, first, later):
    counts = iter((first, later))

    def steps(x):
        for _ in range(next(counts)):
            x = x + 1
        return x

    wrapped = piece(steps)
    wrapped(x)
    with pytest.raises(HostValueBakedError, match=r"after all that was|no longer calls"):
        wrapped(x)


def test_an_output_that_is_kept_is_caught(piece, x):
    kept = []

    def leaks(x):
        kept.append(x + 1)
        return kept[-1] * 2

    wrapped = piece(leaks)
    wrapped(x)
    with pytest.raises(GraphOutputKeptError, match="32 bytes"):
        wrapped(x)
    kept.clear()
    gc.collect()


def test_a_collective_in_a_graph_keeps_none_of_its_memory(piece, x, one_rank):
    """torch's object for a collective's work owns what the collective reads and writes."""

    def gathered(x):
        twice = torch.empty_like(x)
        dist.all_gather_into_tensor(twice, x * 2, group=one_rank)
        return twice + 1

    wrapped = piece(gathered)
    wrapped(x)
    for step in range(5):
        x.fill_(step)
        assert wrapped(x).tolist() == [2.0 * step + 1] * 8


def test_memory_of_a_graph_read_after_another_took_it_is_caught(piece, x):
    one, two = piece(lambda x: x + 1), piece(lambda x: x + 2)
    one(x)
    two(x)
    first = one(x)
    assert places.is_on_device(first)
    assert first.tolist() == (x + 1).tolist()
    two(x)
    with pytest.raises(GraphMemoryReusedError, match="copy what is needed later"):
        first + 1


def test_graphs_share_the_memory_of_what_is_gone(piece, rehearsal):
    from vllm_kunlun.emulator.rehearsal.pool import POOL

    x = torch.ones(1 << 20, device="cuda")
    piece(lambda x: x + 1)(x)
    before = POOL.size
    for number in range(3):
        piece(lambda x, number=number: x + number)(x)
    assert POOL.size == before


def test_capturing_is_said(piece, x):
    seen = []
    piece(lambda x: (seen.append(torch.cuda.is_current_stream_capturing()), x + 1)[1])(x)
    assert (seen, torch.cuda.is_current_stream_capturing()) == ([True], False)
