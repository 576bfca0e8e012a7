# SPDX-License-Identifier: Apache-2.0
"""Which counts belong to a prefill and which to a decode step, with an engine that asks by rule."""

from __future__ import annotations

import contextlib
import types
from collections import Counter

import pytest
import torch

from vllm_kunlun.emulator.rehearsal import counts
from vllm_kunlun.emulator.rehearsal.measuring import engine
from vllm_kunlun.emulator.rehearsal.measuring.request import Request

REQUEST = Request(("folder",), 320, False, 2, 8, 5, "auto", "dummy", False, False)
LAUNCH = counts.Asked("launch", "add", False)
COPY = counts.Asked("copy to device", "tokens", False)
ONCE = counts.Asked("wait", "first", False)


class _Engine:
    """A step ahead: the first call of an answer gives no token, and the last asks for nothing."""

    def __init__(self):
        self.asked, self.left, self.prompts, self.ever = Counter(), 0, [], False

    def add_request(self, _name, prompt, sampling):
        self.left = sampling.max_tokens + 1
        self.prompts.append(prompt["prompt_token_ids"])
        self.asked[COPY] += 1
        self.tokens = sampling.max_tokens

    def has_unfinished_requests(self):
        return self.left > 0

    def step(self):
        self.asked[ONCE] += not self.ever
        self.ever = True
        if self.left > 1:
            self.asked[LAUNCH] += 10 if self.left == self.tokens + 1 else 3
        self.left -= 1


@pytest.fixture
def measured(monkeypatch):
    fake = _Engine()

    @contextlib.contextmanager
    def started(folder, request):
        yield types.SimpleNamespace(
            llm_engine=fake, model_config=types.SimpleNamespace(dtype=torch.bfloat16)
        )

    monkeypatch.setattr(engine, "_engine", started)
    monkeypatch.setattr(engine, "POOL", types.SimpleNamespace(size=96))
    monkeypatch.setattr(counts, "snapshot", lambda: fake.asked.copy())
    return engine.measure("folder", REQUEST), fake


def test_the_dtype_is_the_models(measured):
    found, _ = measured
    assert found.dtype == "bfloat16"  # asked for was "auto"


def test_a_prefill_is_an_answer_of_one_token(measured):
    found, _ = measured
    assert found.prefill.asked == {LAUNCH: 10, COPY: 2}
    assert found.prefill.steps == 1


def test_a_decode_step_is_free_of_what_begins_and_ends_an_answer(measured):
    found, _ = measured
    assert found.decode.asked == {LAUNCH: 3 * REQUEST.steps}
    assert found.decode.steps == REQUEST.steps


def test_captured_memory_is_the_pools(measured):
    assert measured[0].captured_bytes == 96


def test_every_answer_is_of_the_same_prompts(measured):
    _, fake = measured
    batches = [fake.prompts[at : at + 2] for at in range(0, len(fake.prompts), 2)]
    assert len(batches) == 5
    assert all(batch == batches[0] for batch in batches)
    assert {len(prompt) for prompt in batches[0]} == {8}


def test_a_difference_keeps_what_is_negative():
    assert engine._difference(Counter(a=1), Counter(a=3, b=2)) == {"a": -2, "b": -2}
