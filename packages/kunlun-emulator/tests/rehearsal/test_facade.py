# SPDX-License-Identifier: Apache-2.0
"""``torch.cuda`` answers as on a machine with a card."""

import importlib.machinery
import sys
import types

import pytest
import torch
import torch.distributed as dist

from vllm_kunlun.emulator.rehearsal import device_memory, facade


def test_there_is_a_device(rehearsal):
    assert torch.cuda.is_available()
    assert torch.cuda.device_count() >= 1
    assert "P800" in torch.cuda.get_device_name()
    assert torch.cuda.get_device_properties(0).total_memory > 0
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total


def test_the_vendors_collectives_answer_to_nccl(rehearsal, tmp_path):
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        x = torch.ones(2, device="cuda")
        dist.all_reduce(x)
        assert x.tolist() == [1, 1]
    finally:
        dist.destroy_process_group()


def test_a_storage_that_does_not_own_lies_where_it_is_said_to(rehearsal):
    x = torch.ones(2, device="cuda")
    memory = torch._C._construct_storage_from_data_pointer(x.data_ptr(), x.device, 8)
    view = torch.empty(0, device=x.device).set_(memory, 0, (2,), (1,))
    assert (view.is_cuda, view.data_ptr()) == (True, x.data_ptr())


class Driver:
    """NVIDIA's, as Triton has it in its list; an import of its file makes another class."""

    is_active = staticmethod(lambda: torch.cuda.is_available())


@pytest.fixture
def triton(monkeypatch):
    for name, backends in (
        ("triton", {}),
        ("triton.backends", {"nvidia": types.SimpleNamespace(driver=Driver)}),
    ):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.backends = backends
        monkeypatch.setitem(sys.modules, name, module)


def test_triton_finds_no_driver(triton, rehearsal):
    assert torch.cuda.is_available()
    assert not Driver.is_active()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_generators_of_both_draw(rehearsal, device):
    one, two = (torch.Generator(device=device).manual_seed(3) for _ in range(2))
    draws = [torch.rand(4, device=device, generator=each) for each in (one, two)]
    assert torch.equal(*draws)


MIB = 2**20


def ask(name: str):
    """As of ``torch.cuda`` once the façade stands, without putting it up for other tests."""
    return facade._CUDA[name](torch.device("cuda", 0))


@pytest.fixture(autouse=True)
def two_gib(monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", "2")


def test_what_is_taken_shows_in_each_answer():
    ask("reset_peak_memory_stats")
    before = ask("memory_allocated")
    tensor = torch.empty(MIB, dtype=torch.uint8)
    device_memory.track(tensor.untyped_storage())
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated"):
        assert ask(name) == before + MIB, name
    assert ask("mem_get_info") == (2**31 - before - MIB, 2**31)
    del tensor
    assert ask("memory_allocated") == before
    assert ask("memory_stats")["allocated_bytes.all.peak"] == before + MIB
    assert ask("get_device_properties").total_memory == 2**31


def test_a_process_says_once_that_there_is_no_card(monkeypatch):
    facade._say_what_this_is.cache_clear()
    said = []
    monkeypatch.setattr(facade.logger, "warning", lambda text, *values: said.append(text % values))
    for _ in range(2):
        facade._CUDA["set_device"](torch.device("cuda", 0))
    (text,) = said
    assert "rehearsal and no card" in text
    assert "2.0 GiB" in text
    assert "VLLM_KUNLUN_EMULATED_MEMORY_GIB" in text
