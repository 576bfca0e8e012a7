# SPDX-License-Identifier: Apache-2.0
"""A folder with a configuration, and what the commands say of it in place of running them."""

from __future__ import annotations

import json

import pytest

from vllm_kunlun.cli.assess import assessment
from vllm_kunlun.cli.symptoms import answers


@pytest.fixture
def folder(tmp_path):
    """``folder("name.json", key=value)`` writes a file; config.json is there."""

    def write(name="config.json", **values):
        (tmp_path / name).write_text(json.dumps(values))
        return tmp_path

    write(max_position_embeddings=4096, eos_token_id=2)
    return write


@pytest.fixture
def said(monkeypatch):
    """``said(ok=..., expected=[...])``: what ``verify`` finds."""

    def put(ok, expected=(1, 2, 3, 4, 5, 6)):
        result = {"ok": ok, "verdict": "EQUAL." if ok else "DIFFERENT: gate.", "next": "load it",
                  "prompts": [{"expected": list(expected)}]}  # fmt: skip
        monkeypatch.setattr(answers, "judged", lambda asked, say: result)

    return put


@pytest.fixture
def assessed(monkeypatch):
    """``assessed(way, ...)``: what ``assess`` finds."""
    way = {"cards": 1, "refused": "", "fits": True, "weight_bytes": 2**34, "activations": 2**30,
           "runtime": 2**30, "cache": 2**36, "requests": 3.0, "tokens": 9000}  # fmt: skip

    def put(**changed):
        found = {"ways": [way | changed], "length": 4096, "card_bytes": 96 * 2**30}
        monkeypatch.setattr(assessment, "assess", lambda *_: found)

    return put
