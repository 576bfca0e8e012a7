# SPDX-License-Identifier: Apache-2.0
"""What vLLM asks ``torch.cuda`` about memory is answered from what is counted."""

from __future__ import annotations

import logging

import pytest
import torch

from vllm_kunlun.emulator.rehearsal import device_memory, facade

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


def test_a_process_says_once_that_there_is_no_card(caplog, monkeypatch):
    facade._say_what_this_is.cache_clear()
    # vLLM keeps its records to itself once it is imported.
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        ask("set_device")
        ask("set_device")
    (record,) = caplog.records
    said = record.getMessage()
    assert "rehearsal and no card" in said
    assert "2.0 GiB" in said
    assert "VLLM_KUNLUN_EMULATED_MEMORY_GIB" in said
