# SPDX-License-Identifier: Apache-2.0
"""A card's worker measures what the weights take, and says where a capture failed."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.platforms import memory
from vllm_kunlun.platforms.card.worker import KunlunCardWorker
from vllm_kunlun.platforms.errors import (
    DeviceUnavailableError,
    GraphCaptureError,
    UnsupportedError,
)
from vllm_kunlun.platforms.loading import forms, renewal

GIB = 2**30


def test_a_cards_worker_reports_after_it_has_profiled(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="vllm.kunlun.memory")
    base = KunlunCardWorker.__mro__[1]
    held = iter([1 * GIB, 8 * GIB])
    monkeypatch.setattr(memory, "held_bytes", lambda _: next(held))
    monkeypatch.setattr(base, "load_model", lambda _: None)
    monkeypatch.setattr(base, "determine_available_memory", lambda _: 5)
    worker = object.__new__(KunlunCardWorker)
    worker.device = "cuda:0"
    model = torch.nn.Linear(GIB // 2, 2, bias=False, device="meta", dtype=torch.bfloat16)
    worker.model_runner = SimpleNamespace(get_model=lambda: model)
    worker.model_config = SimpleNamespace(
        dtype=torch.bfloat16, enforce_eager=False, max_model_len=8
    )
    worker.load_model()
    assert worker.determine_available_memory() == 5
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "take 7.00 GiB" in record.getMessage()


def test_a_cards_weights_can_be_renewed_and_saved(monkeypatch):
    base, saved = KunlunCardWorker.__mro__[1], []
    monkeypatch.setattr(memory, "held_bytes", lambda _: 0)
    monkeypatch.setattr(base, "load_model", lambda _: None)
    monkeypatch.setattr(base, "save_sharded_state", lambda _, path: saved.append(path))
    worker = object.__new__(KunlunCardWorker)
    worker.device = "cuda:0"
    model = torch.nn.Linear(2, 2)
    worker.model_runner = SimpleNamespace(get_model=lambda: model)
    worker.model_config = SimpleNamespace(dtype=torch.bfloat16, enforce_eager=True, max_model_len=8)
    worker.load_model()
    assert renewal.renewal_of(model) is not None
    worker.save_sharded_state("here")
    forms.lose(model, "m")
    with pytest.raises(UnsupportedError, match="Keep the checkpoint"):
        worker.save_sharded_state("there")
    assert saved == ["here"]


def test_a_capture_that_fails_is_explained(monkeypatch):
    base = KunlunCardWorker.__mro__[1]
    monkeypatch.setattr(
        base, "compile_or_warm_up_model", lambda worker: worker.model_runner.capture_model()
    )
    worker = object.__new__(KunlunCardWorker)

    def capture_model():
        raise ValueError("planted")

    worker.model_runner = SimpleNamespace(capture_model=capture_model)
    with pytest.raises(GraphCaptureError, match=r"--enforce-eager.*Cause: ValueError: planted$"):
        worker.compile_or_warm_up_model()


def second_engine(rank):
    """The worker of a rank of the second engine of two, which have two shards each."""
    worker = object.__new__(KunlunCardWorker)
    worker.local_rank = rank
    worker.parallel_config = SimpleNamespace(
        distributed_executor_backend="mp",
        data_parallel_rank_local=1,
        local_world_size=2,
        nnodes_within_dp=1,
    )
    return worker


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(2, (0, 1)), (8, (2, 3))],
    ids=["its-engine's", "the-host's"],
)
def test_the_second_engine_of_two_takes_cards_that_it_sees(visible, expected, monkeypatch):
    taken = []

    def vllms(worker):  # what vLLM's worker does with its rank before it takes the card
        worker.local_rank += worker.parallel_config.data_parallel_rank_local * 2
        taken.append(worker.local_rank)

    monkeypatch.setattr(KunlunCardWorker.__mro__[1], "init_device", vllms)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    for rank in range(2):
        worker = second_engine(rank)
        worker.init_device()
        assert worker.parallel_config.data_parallel_rank_local == 1
    assert tuple(taken) == expected


def test_more_ranks_than_cards_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("XPU_VISIBLE_DEVICES", "2")
    with pytest.raises(DeviceUnavailableError, match=r"2 ranks .* sees 1 .*DEVICES=2\)"):
        second_engine(0).init_device()
