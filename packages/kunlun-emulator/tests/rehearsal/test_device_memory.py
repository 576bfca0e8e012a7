# SPDX-License-Identifier: Apache-2.0
"""The device's memory is counted to the byte, once, and for as long as it is there."""

from __future__ import annotations

import threading

import pytest
import torch

from vllm_kunlun.emulator.rehearsal import device_memory
from vllm_kunlun.platforms.errors import UnsupportedError

KIB = 1024


@pytest.fixture(autouse=True)
def before() -> int:
    """What other tests have left."""
    device_memory.reset_peak()
    return device_memory.allocated()


def on_device(size: int) -> torch.Tensor:
    tensor = torch.empty(size, dtype=torch.uint8)
    device_memory.track(tensor.untyped_storage())
    return tensor


def without_owning(tensor: torch.Tensor) -> torch.Tensor:
    storage = tensor.untyped_storage()
    alias = torch._C._construct_storage_from_data_pointer(
        storage.data_ptr(), torch.device("cpu"), storage.nbytes()
    )
    device_memory.track(alias)
    return torch.empty(0, dtype=torch.uint8).set_(alias)


def test_memory_counts_until_its_last_view_is_gone(before):
    tensor = on_device(KIB)
    assert device_memory.allocated() == before + KIB
    view = tensor[10:20]
    del tensor
    assert device_memory.allocated() == before + KIB
    parameter = torch.nn.Parameter(view, requires_grad=False)
    del view
    assert device_memory.allocated() == before + KIB
    parameter.data = torch.empty(0, dtype=torch.uint8)
    assert device_memory.allocated() == before


def test_memory_counts_once(before):
    tensor = on_device(KIB)
    device_memory.track(tensor.untyped_storage())
    device_memory.track(tensor[1:].untyped_storage())
    assert device_memory.allocated() == before + KIB


def test_a_view_that_owns_nothing_neither_counts_nor_ends_the_count(before):
    tensor = on_device(KIB)
    view = without_owning(tensor)
    assert device_memory.allocated() == before + KIB
    del view
    assert device_memory.allocated() == before + KIB
    del tensor
    assert device_memory.allocated() == before


def test_what_lies_at_an_address_that_was_freed_counts(before):
    for _ in range(50):  # the C library soon gives the same address again
        tensor = on_device(KIB)
        assert device_memory.allocated() == before + KIB
        del tensor
    assert device_memory.allocated() == before


def test_the_peak_is_what_lay_there_at_once(before):
    for _ in range(3):
        on_device(4 * KIB)
    assert device_memory.peak() == before + 4 * KIB
    held = [on_device(KIB) for _ in range(6)]
    assert device_memory.peak() == before + 6 * KIB
    del held[1:]
    device_memory.reset_peak()
    assert device_memory.peak() == before + KIB
    assert device_memory.stats()["allocated_bytes.all.peak"] == before + KIB
    assert device_memory.stats()["allocated_bytes.all.current"] == before + KIB


def test_what_was_found_to_be_the_hosts_counts_no_longer(before):
    tensor = on_device(KIB)
    for _ in range(2):
        device_memory.release(tensor.untyped_storage())
        assert device_memory.allocated() == before
    device_memory.track(tensor.untyped_storage())
    assert device_memory.allocated() == before + KIB


def test_what_takes_no_memory_of_the_host_does_not_count(before):
    tensors = [torch.empty(KIB, device="meta"), torch.empty(0)]
    for tensor in tensors:
        device_memory.track(tensor.untyped_storage())
    assert device_memory.allocated() == before


def test_threads_count_into_one_sum(before):
    def work() -> None:
        for _ in range(500):
            on_device(KIB)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert device_memory.allocated() == before
    assert before + KIB <= device_memory.peak() <= before + 4 * KIB


def test_what_is_free_is_the_rest(before, monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", "2")
    assert device_memory.total() == 2 * 2**30
    tensor = on_device(KIB)
    assert device_memory.free() == 2 * 2**30 - before - KIB
    assert device_memory.reserved() == before + KIB
    del tensor
    monkeypatch.setenv("VLLM_KUNLUN_EMULATED_MEMORY_GIB", "much")
    with pytest.raises(UnsupportedError, match="a number"):
        device_memory.total()
