# SPDX-License-Identifier: Apache-2.0
"""A card's worker measures what the weights take, and says where a capture failed."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.platforms import memory
from vllm_kunlun.platforms.card.worker import KunlunCardWorker
from vllm_kunlun.platforms.errors import GraphCaptureError, UnsupportedError
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
