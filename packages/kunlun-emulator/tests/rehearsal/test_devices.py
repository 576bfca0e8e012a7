# SPDX-License-Identifier: Apache-2.0
"""Calls that name the device, and what tensors say of where they lie."""

import numpy as np
import pytest
import torch

from vllm_kunlun.emulator.rehearsal import places

pytestmark = pytest.mark.usefixtures("rehearsal")

ON_DEVICE = {
    "empty": lambda: torch.empty(2, device="cuda"),
    "index": lambda: torch.empty(2, device="cuda:0"),
    "object": lambda: torch.zeros(2, device=torch.device("cuda", 0)),
    "arange": lambda: torch.arange(2, device="cuda"),
    "tensor": lambda: torch.tensor([1, 2], device="cuda"),
    "as_tensor": lambda: torch.as_tensor(np.ones(2), device="cuda"),
    "randint": lambda: torch.randint(0, 9, (2,), device="cuda"),
    "like": lambda: torch.zeros_like(torch.zeros(2), device="cuda"),
    "new": lambda: torch.zeros(2).new_empty((2,), device="cuda"),
    "to": lambda: torch.zeros(2).to("cuda"),
    "to with dtype": lambda: torch.zeros(2).to("cuda", torch.float16),
    "to of another": lambda: torch.zeros(2).to(torch.ones(2, device="cuda")),
    "to by name": lambda: torch.zeros(2).to(device="cuda", dtype=torch.float64),
    "cuda": lambda: torch.zeros(2).cuda(),
    "module": lambda: torch.nn.Linear(2, 2).to("cuda").weight,
    "op": lambda: torch.zeros(2, device="cuda") + 1,
    "like the device's": lambda: torch.empty_like(torch.zeros(2, device="cuda")),
    "dtype": lambda: torch.zeros(2, device="cuda").half(),
    "inference": lambda: torch.inference_mode()(lambda: torch.zeros(2, device="cuda").half())(),
}
ON_HOST = {
    "empty": lambda: torch.empty(2),
    "cpu": lambda: torch.zeros(2, device="cuda").cpu(),
    "to": lambda: torch.zeros(2, device="cuda").to("cpu"),
    "like": lambda: torch.empty_like(torch.zeros(2, device="cuda"), device="cpu"),
    "numpy": lambda: torch.from_numpy(np.ones(2)),
    "op": lambda: torch.zeros(2) + 1,
}


@pytest.mark.parametrize("made", ON_DEVICE.values(), ids=ON_DEVICE)
def test_memory_of_the_device(made):
    x = made()
    assert places.is_on_device(x)
    assert (x.device, x.is_cuda, x.is_cpu, x.get_device()) == (
        torch.device("cuda", 0), True, False, 0
    )  # fmt: skip


@pytest.mark.parametrize("made", ON_HOST.values(), ids=ON_HOST)
def test_memory_of_the_host(made):
    x = made()
    assert not places.is_on_device(x)
    assert (x.device, x.is_cuda, x.is_cpu, x.get_device()) == (
        torch.device("cpu"), False, True, -1
    )  # fmt: skip


def test_a_context_names_the_device():
    with torch.device("cuda"):
        assert torch.nn.Linear(2, 2).weight.is_cuda


def test_moving_copies_and_staying_does_not():
    host = torch.zeros(2)
    device = host.to("cuda")
    device.fill_(1)
    assert host.tolist() == [0, 0]
    assert device.to("cuda") is device
    assert device.to("cuda", copy=True) is not device


@pytest.mark.parametrize(
    ("made", "pinned"),
    [
        (lambda: torch.zeros(2, pin_memory=True), True),
        (lambda: torch.zeros(2, device="cpu", pin_memory=True), True),
        (lambda: torch.zeros(2).pin_memory(), True),
        (lambda: torch.tensor([1], pin_memory=True), True),
        (lambda: torch.zeros(2, device="cuda").to("cpu", non_blocking=True), True),
        (lambda: torch.zeros(2), False),
        (lambda: torch.zeros(2, device="cuda").cpu(), False),
    ],
)
def test_pinned_memory(made, pinned):
    assert made().is_pinned() is pinned
    torch.cuda.synchronize()


def test_a_tensor_of_the_device_is_no_array():
    with pytest.raises(TypeError, match=r"\.cpu\(\) first"):
        torch.zeros(2, device="cuda").numpy()


def test_printing_is_no_work_of_the_device(asked):
    x = torch.zeros(2, device="cuda")
    asked()
    assert "0., 0." in repr(x)
    assert not asked()


def test_what_is_compiled_takes_tensors_of_the_device():
    """Traced, a tensor is what its stand-in is; torch before 2.6 asks this mode while it traces."""

    def plain(x):
        return torch.relu(x + torch.ones(3, device="cuda")) + torch.zeros(3, device=x.device)

    x = torch.randn(2, 3, device="cuda")
    y = torch.compile(plain, backend="eager", fullgraph=True)(x)
    assert torch.equal(y.cpu(), plain(x).cpu())
    assert y.is_cuda
