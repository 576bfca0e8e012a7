# SPDX-License-Identifier: Apache-2.0
"""The emulated runner around vLLM's methods: what it keeps, copies and puts in their place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from vllm_kunlun.emulator.device import host_streams
from vllm_kunlun.emulator.device.model_runner import KunlunModelRunner


@pytest.fixture
def runner() -> Any:
    return KunlunModelRunner.__new__(KunlunModelRunner)


def test_draws_that_are_taken_back_can_be(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three requests with a seed the middle one is in its prompt: its generator goes back."""
    generators = {row: host_streams.HostGenerator().manual_seed(row) for row in (0, 1, 2)}
    before = {row: each.get_state() for row, each in generators.items()}
    runner.discard_request_mask = SimpleNamespace(np=np.array([False, True, False, True]))
    runner.input_batch = SimpleNamespace(num_reqs=3, generators=generators)

    def sample(self: Any, *arguments: Any, **keywords: Any) -> tuple[Any, Any]:
        for each in generators.values():
            torch.empty(5).uniform_(generator=each)
        return arguments, keywords

    monkeypatch.setattr(GPUModelRunner, "_sample", sample)
    assert runner._sample("logits", spec=1) == (("logits",), {"spec": 1})
    generators[1].set_offset(-4)
    assert torch.equal(generators[1].get_state(), before[1])
    for row in (0, 2):
        with pytest.raises(RuntimeError, match="keep"):
            generators[row].set_offset(-4)


@pytest.mark.parametrize("method", ["_update_states", "sample_tokens"])
def test_streams_and_generators_of_the_host_stand_in(
    method: str, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = torch.Generator
    monkeypatch.setattr(GPUModelRunner, method, lambda *_, **__: torch.Generator)
    assert getattr(runner, method)() is host_streams.HostGenerator
    assert torch.Generator is own


def test_new_blocks_stay_as_they_are(runner: Any) -> None:
    """Where vLLM clears them it takes pages for blocks, and others hold what is in those."""
    pages = torch.ones(6, 2)
    layer = SimpleNamespace(kv_cache=pages)
    runner.compilation_config = SimpleNamespace(static_forward_context={"layer": layer})
    runner._zero_block_ids([1])
    assert pages.all()


def test_weights_are_loaded_by_the_runner_that_knows_drafters(
    runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(GPUModelRunner, "load_model", lambda self, scale: seen.append(scale))
    monkeypatch.setattr(CPUModelRunner, "load_model", lambda *_: pytest.fail("the CPU's loader"))
    runner.load_model(True)
    assert seen == [True]
