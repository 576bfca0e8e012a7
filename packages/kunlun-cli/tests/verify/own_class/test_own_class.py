# SPDX-License-Identifier: Apache-2.0
"""The judge's process: what is refused before it starts, and how it may end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from vllm_kunlun.cli.verify import own_class
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """``ask(process, architecture)``: ``process`` is called with the command in its place."""
    monkeypatch.setattr(own_class.platformdirs, "user_log_path", lambda *_, **__: tmp_path)

    def call(process, architecture="MiMoV2FlashForCausalLM"):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        monkeypatch.setattr(own_class.subprocess, "run", process)
        return own_class.ask_own_class(folder, [[5]], 1, [5], trust_remote_code=False)

    return call


def test_an_architecture_that_vllm_lacks_has_no_judge(ask):
    with pytest.raises(UnsupportedError, match="nothing judges it: name a checkpoint"):
        ask(None, "NobodyForCausalLM")


def test_a_process_that_fails_names_its_log(ask):
    def process(command, **options):
        assert options["env"]["VLLM_KUNLUN_DEVICE"] == "emulated"
        return subprocess.CompletedProcess(command, 3)

    with pytest.raises(KunlunError, match=r"ended with code 3: .*verify-judge\.log says why"):
        ask(process)


def test_a_refusal_is_handed_on(ask):
    def process(command, **_):
        Path(command[-1]).with_suffix(".json").write_text(json.dumps("no such formula"))
        return subprocess.CompletedProcess(command, 0)

    with pytest.raises(UnsupportedError, match="no such formula"):
        ask(process)
