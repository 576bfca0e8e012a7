# SPDX-License-Identifier: Apache-2.0
"""Damaged checkpoints are refused by name before a weight is read; good ones never are."""

from __future__ import annotations

import time

import pytest
import torch
from support import damage
from support.loading import load

from vllm_kunlun.platforms.checks import checkpoint as files
from vllm_kunlun.platforms.errors import KunlunError


@pytest.mark.parametrize("name", damage.FILES)
def test_damaged_files(name, source, tmp_path):
    case = damage.FILES[name]
    damage.copy(source(case.source), tmp_path, case.change)
    with pytest.raises(KunlunError) as refused:
        files.check_files(tmp_path)
    for word in case.words:
        assert word in str(refused.value)


ALIKE = ("awq-without-", "gptq-without-", "w4a16-without-", "float-o-", "float-norm-")
"""Beginnings of the names of cases of which one of a kind is enough, where time counts."""
EACH = [
    pytest.param(name, marks=pytest.mark.slow if name.startswith(ALIKE) else [])
    for name in damage.TENSORS
]


@pytest.mark.parametrize("name", EACH)
def test_damaged_tensors(name, source, tmp_path):
    case = damage.TENSORS[name]
    damage.copy(source(case.source), tmp_path, case.change)
    with pytest.raises(ValueError) as refused:
        load(tmp_path)
    for word in case.words:
        assert word in str(refused.value)


@pytest.mark.parametrize("kind", ["float", "awq", "gptq", "w4a16", "w8a8", "experts"])
def test_whole_checkpoints_are_judged_by_their_headers_alone(kind, source):
    _, looks = load(source(kind))
    assert looks == [False]


@pytest.mark.parametrize("index", [True, False], ids=["index", "no-index"])
def test_a_checkpoint_of_several_files(index, source, tmp_path):
    damage.copy(source("float"), tmp_path, damage.shards(lambda _: None, index=index))
    model, looks = load(tmp_path)
    whole, _ = load(source("float"))
    assert looks == [False]
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name


def test_two_hundred_files_take_less_than_three_seconds(tmp_path):
    from safetensors.torch import save_file

    for number in range(200):
        state = {f"layers.{number}.{each}.weight": torch.zeros(2, 2) for each in range(100)}
        save_file(state, tmp_path / f"model-{number + 1:05}-of-00200.safetensors")
    began = time.process_time()  # a busy neighbour takes none of it
    files.check_files(tmp_path)
    assert time.process_time() - began < 3
