# SPDX-License-Identifier: Apache-2.0
"""What a model's weights take of a device: counted once, and warned of where held twice."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.platforms import weight_memory

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
