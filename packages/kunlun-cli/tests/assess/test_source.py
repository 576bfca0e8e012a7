# SPDX-License-Identifier: Apache-2.0
"""Where a configuration comes from, and what the weights beside it take."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from vllm_kunlun.cli.assess.source import folder_of, weight_bytes_on_disk
from vllm_kunlun.platforms.errors import UnsupportedError


def test_folder_and_file_give_a_copy_that_says_a_dtype(configuration):
    folder = configuration("qwen3", "Qwen3ForCausalLM", dtype=None)
    before = (folder / "config.json").read_bytes()
    for model in (folder, folder / "config.json"):
        with folder_of(str(model)) as (original, copy):
            content = json.loads((copy / "config.json").read_text())
            assert content["dtype"] == "bfloat16"
            assert original.is_dir()
    assert (folder / "config.json").read_bytes() == before
    assert not copy.exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [("no/such/folder", "neither a folder"), ("nobody/nothing", "hf download nobody/nothing")],
)
def test_what_is_not_there_is_refused_with_the_way_out(model, words, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnsupportedError, match=words), folder_of(model):
        pass


def test_a_configuration_of_no_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UnsupportedError, match="architectures"), folder_of(str(tmp_path)):
        pass


def test_bytes_of_tensors_by_header_then_by_index(tmp_path):
    assert weight_bytes_on_disk(tmp_path) is None
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 7}}))
    assert weight_bytes_on_disk(tmp_path) == 7
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(2, dtype=torch.int8)},
              tmp_path / "model-1.safetensors")  # fmt: skip
    save_file({"c": torch.zeros(4)}, tmp_path / "model-2.safetensors", {"format": "pt"})
    assert weight_bytes_on_disk(tmp_path) == 60 + 2 + 16


@pytest.mark.parametrize("content", ["{}", "[", '{"metadata": 3}'])
def test_a_damaged_index_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UnsupportedError, match="fetch the"):
        weight_bytes_on_disk(tmp_path)


def test_a_damaged_header_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    cut = (tmp_path / "a.safetensors").read_bytes()[:20]
    (tmp_path / "a.safetensors").write_bytes(cut)
    with pytest.raises(UnsupportedError, match="headers"):
        weight_bytes_on_disk(tmp_path)
