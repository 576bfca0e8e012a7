# SPDX-License-Identifier: Apache-2.0
"""Each argument and variable with who said so and why."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.serving.explain import explain
from vllm_kunlun.cli.serving.plan import Chosen, plan
from vllm_kunlun.platforms.families import ServingPreset

PRESET = ServingPreset(
    args={"dtype": "float16", "block-size": 64},
    environment={"BKCL_FORCE_SYNC": "1", "XPU_USE_DEFAULT_CTX": "1"},
    why={"dtype": "faster", "block-size": "pages", "BKCL_FORCE_SYNC": "stable"},
)
CHOSEN = Chosen("planted preset", PRESET)


@pytest.fixture
def rows(monkeypatch, tmp_path):
    monkeypatch.delenv("BKCL_FORCE_SYNC", raising=False)
    monkeypatch.setenv("XPU_USE_DEFAULT_CTX", "0")
    monkeypatch.setenv("VLLM_KUNLUN_MAX_N", "7")
    monkeypatch.delenv("XMLIR_CUDNN_ENABLED", raising=False)
    file = tmp_path / "a.yaml"
    file.write_text("seed: 3\n")
    user = ["--dtype", "bfloat16", "-tp", "2", "--unheard", "--config", str(file)]
    found = explain(user, CHOSEN, plan("model", user, PRESET), {"BKCL_FORCE_SYNC": "1"})
    return {row.name: row for row in found}


def test_arguments(rows):
    dtype = rows["--dtype"]
    assert (dtype.value, dtype.source) == ("bfloat16", "you")
    assert dtype.why.startswith("Data type for model weights")
    assert dtype.why.endswith("Without it float16: faster")
    assert rows["-tp"].why == "Number of tensor parallel groups"
    assert rows["--unheard"].why == "an option of vLLM's"
    assert rows["--seed"].source.startswith("you, in ")
    assert rows["--block-size"][1:] == ("64", "planted preset", "pages")


def test_variables(rows):
    assert rows["BKCL_FORCE_SYNC"][1:] == ("1", "planted preset", "stable")
    context = rows["XPU_USE_DEFAULT_CTX"]
    assert (context.value, context.source) == ("0", "you, in the environment")
    assert context.why.endswith("the preset has 1")
    assert rows["VLLM_KUNLUN_MAX_N"].value == "7"
    assert rows["XMLIR_CUDNN_ENABLED"].source == "the platform, on a card"
