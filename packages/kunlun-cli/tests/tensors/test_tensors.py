# SPDX-License-Identifier: Apache-2.0
"""The command without vLLM's part; whole checkpoints are in tests/user/test_weights.py."""

import json

import pytest

from vllm_kunlun.cli import tensors


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["MyForCausalLM"]}))
    return tmp_path


def test_no_folder_is_refused_with_the_command_that_makes_one(run):
    result = run("weights", "owner/name")
    assert result.exit_code == 2
    assert "hf download owner/name" in result.stderr


def test_damaged_files_are_an_answer(folder, run_json):
    (folder / "model.safetensors").write_bytes(b"half")
    code, content = run_json("weights", folder)
    assert (code, content["ok"]) == (1, False)
    assert "not a whole safetensors file" in content["refused"]


@pytest.mark.parametrize("ok", [True, False])
def test_the_exit_code_is_the_answer(folder, run_json, monkeypatch, ok):
    monkeypatch.setattr(tensors, "surveyed", lambda model, ranks, trust: ranks)
    empty = {"parameters": 0, "bytes": 0, "counts": {}, "sharded": 0, "missing": [], "tied": {},
             "unread": None, "refused": None, "tensors": []}  # fmt: skip
    monkeypatch.setattr(tensors, "as_result", lambda ranks, **about: {"ok": ok, **about, **empty})
    code, content = run_json("weights", folder, "-tp", 2)
    assert code == (not ok)
    assert content["tensor_parallel_size"] == 2
    assert content["seconds"] >= 0
