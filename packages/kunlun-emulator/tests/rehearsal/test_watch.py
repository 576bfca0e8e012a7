# SPDX-License-Identifier: Apache-2.0
"""Each op is checked for where its tensors lie, and counted for what it asks of the device."""

import pytest
import torch

from vllm_kunlun.emulator.rehearsal import watch
from vllm_kunlun.emulator.rehearsal.faults import HostReadInCaptureError, WrongMemoryError
from vllm_kunlun.ops.torch_ops import vllm_names

pytestmark = pytest.mark.usefixtures("rehearsal")


def test_an_op_on_both_memories_is_caught():
    with pytest.raises(WrongMemoryError, match=r"aten::add .* device of shape \(2,\) .* host"):
        torch.zeros(2, device="cuda") + torch.zeros(2)
    with pytest.raises(WrongMemoryError, match="aten::cat"):
        torch.cat([torch.zeros(2), torch.zeros(2, device="cuda")])


def test_what_a_graph_gave_is_the_devices():
    vllm_names.define()
    alias = torch.ops._C.weak_ref_tensor
    kept = torch.ones(2, device="cuda")
    assert alias(kept).tolist() == [1.0, 1.0]
    with pytest.raises(WrongMemoryError, match=r"of shape \(2,\), lies in host memory"):
        alias(torch.ones(2))


def test_numbers_and_indices_of_the_host_are_taken():
    x = torch.arange(4, device="cuda")
    assert (x + torch.tensor(2)).is_cuda
    assert x[torch.tensor([3, 1])].tolist() == [3, 1]
    x[torch.tensor([0])] = 7
    assert x[0].item() == 7


@pytest.mark.parametrize(
    ("ask", "counted"),
    [
        (lambda x: x + 1, {("launch", "aten::add"): 1}),
        (lambda x: x.add_(1), {("launch", "aten::add_"): 1}),
        (lambda x: x.view(2, 2)[1:].t().unsqueeze(0), {}),
        (lambda x: torch.empty_like(x), {}),
        (lambda x: x.new_zeros(3), {("launch", "aten::new_zeros"): 1}),
        (lambda x: x.half(), {("launch", "aten::_to_copy"): 1}),
        (lambda x: x[2:].copy_(x[:2]), {("launch", "aten::copy_"): 1}),
        (lambda x: torch.nn.functional.linear(x[None], torch.empty(3, 4, device="cuda")).t(),
         {("launch", "aten::mm"): 1}),
        (lambda x: torch.zeros(4) + 1, {}),
    ],
    ids=["add", "in place", "views", "empty", "new", "dtype", "copy", "linear", "host"],
)  # fmt: skip
@pytest.mark.parametrize("inference", [False, True])
def test_what_starts_work_is_counted(asked, ask, counted, inference):
    with torch.inference_mode(inference):
        x = torch.ones(4, device="cuda")
        asked()
        ask(x)
        now = asked()
    assert now == counted


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[0].item(),
        lambda x: bool(x[0] > 0),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.masked_select(x, x > 0),
        lambda x: x.unique(),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: torch.zeros(4).copy_(x, non_blocking=True),
        lambda x: x.copy_(torch.zeros(4)),
        lambda x: torch.tensor([1], device="cuda"),
    ],
    ids=["item", "bool", "nonzero", "mask", "select", "unique", "cpu", "tolist", "pageable",
         "blocking", "tensor"],
)  # fmt: skip
def test_what_the_host_must_wait_for_is_counted_once(asked, read):
    x = torch.ones(4, device="cuda")
    asked()
    read(x)
    waits = {place: n for (kind, place), n in asked().items() if kind == "wait"}
    assert list(waits.values()) == [1]
    assert "test_watch.py" in next(iter(waits))


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.copy_(torch.ones(4, pin_memory=True), non_blocking=True),
        lambda x: torch.where(x > 0, x, 0),
        lambda x: x.masked_fill_(x > 0, 2),
        lambda x: x.index_fill_(0, torch.zeros(1, dtype=torch.long, device="cuda"), 2),
        lambda x: x.sort(),
        lambda x: x.fill_(2),
    ],
    ids=["pinned", "where", "masked_fill", "index_fill", "sort", "fill"],
)
def test_other_work_makes_nobody_wait(asked, ask):
    x = torch.ones(4, device="cuda")
    asked()
    ask(x)
    assert not any(kind == "wait" for kind, _ in asked())


def test_inside_a_custom_op_each_op_is_met(asked):
    from vllm_kunlun.ops.torch_ops import norm

    x, weight = torch.ones(2, 8, device="cuda"), torch.ones(8, device="cuda")
    asked()
    norm.rms_norm(x, weight, 1e-6)
    assert asked() == {("vendor", "kunlun_ops.rmsnorm"): 1}


def test_inside_anybodys_custom_op_a_value_read_in_a_capture_is_refused(piece, monkeypatch):
    monkeypatch.setattr(torch.library.Library, "impl", torch.library.Library.impl)
    watch.keep_implementations()

    @torch.library.custom_op("somebodys::doubled", mutates_args=())
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @torch.library.custom_op("somebodys::looks", mutates_args=())
    def looks(x: torch.Tensor) -> torch.Tensor:
        return x * (2 if x.sum().item() > 0 else 3)

    x = torch.ones(4, device="cuda")
    wrapped = piece(lambda x: doubled(x) + 1)
    wrapped(x)
    for step in range(4):  # by the nodes and by the code in turns
        x.fill_(step)
        assert wrapped(x).tolist() == [2.0 * step + 1] * 4
    assert looks(x).tolist() == [6.0] * 4
    with pytest.raises(HostReadInCaptureError, match="_local_scalar_dense"):
        piece(lambda x: looks(x))(x)
