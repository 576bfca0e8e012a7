# SPDX-License-Identifier: Apache-2.0
"""What a model's weights take of a device: counted once, and warned of where held twice."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.platforms import memory, weight_memory
from vllm_kunlun.platforms.card.worker import KunlunCardWorker

GIB = 2**30


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="vllm.kunlun.memory")
    return lambda: [(each.levelname, each.getMessage()) for each in caplog.records]


def test_tensors_that_share_their_memory_count_once():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8))
    model[1].weight = model[0].weight
    model.register_buffer("view", model[0].weight.detach()[2:])
    assert weight_memory.weight_bytes(model) == 4 * (8 * 8 + 8)


def test_a_drafters_own_weights_count_and_shared_ones_do_not_twice():
    target, drafter = (torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False)) for _ in range(2))
    drafter.append(target[0])
    runner = SimpleNamespace(get_model=lambda: target, drafter=SimpleNamespace(model=drafter))
    models = weight_memory.models_of(runner)
    assert weight_memory.weight_bytes(*models) == 4 * 2 * 8 * 8
    assert weight_memory.models_of(SimpleNamespace(get_model=lambda: target)) == [target]


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [(torch.bfloat16, "--dtype float16"), (torch.float16, "please report")],
    ids=["bfloat16", "float16"],
)
def test_weights_that_are_there_twice_are_warned_of(dtype, advice, said):
    weight_memory.report(14 * GIB, 28 * GIB, dtype)
    [(level, text)] = said()
    assert level == "WARNING"
    assert "weights of 14.00 GiB take 28.00 GiB" in text
    assert advice in text


@pytest.mark.parametrize(
    ("weights", "held"), [(14 * GIB, 15 * GIB), (GIB // 8, 2 * GIB)], ids=["large", "small"]
)
def test_what_libraries_take_beside_weights_is_no_second_copy(weights, held, said):
    weight_memory.report(weights, held, torch.bfloat16)
    assert [level for level, _ in said()] == ["INFO"]


def test_what_torch_only_keeps_for_later_is_not_held(monkeypatch):
    in_use = iter([1 * GIB, 9 * GIB])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (96 * GIB - next(in_use), 96 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3 * GIB)
    kept = iter([3 * GIB, 2 * GIB])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: next(kept))
    assert memory.held_bytes("cuda:0") == 1 * GIB
    assert memory.held_bytes("cuda:0") == 8 * GIB


def test_a_cards_worker_reports_after_it_has_profiled(monkeypatch, said):
    base = KunlunCardWorker.__mro__[1]
    held = iter([1 * GIB, 8 * GIB])
    monkeypatch.setattr(memory, "held_bytes", lambda _: next(held))
    monkeypatch.setattr(base, "load_model", lambda _: None)
    monkeypatch.setattr(base, "determine_available_memory", lambda _: 5)
    worker = object.__new__(KunlunCardWorker)
    worker.device = "cuda:0"
    model = torch.nn.Linear(GIB // 2, 2, bias=False, device="meta", dtype=torch.bfloat16)
    worker.model_runner = SimpleNamespace(get_model=lambda: model)
    worker.model_config = SimpleNamespace(dtype=torch.bfloat16)
    worker.load_model()
    assert worker.determine_available_memory() == 5
    [(level, text)] = said()
    assert level == "WARNING"
    assert "take 7.00 GiB" in text
