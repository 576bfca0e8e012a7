# SPDX-License-Identifier: Apache-2.0
"""Which class runs an architecture, and who brings it."""

from __future__ import annotations

import json

import pytest
from vllm import ModelRegistry

from vllm_kunlun.cli.verify.registration import registration
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.fixture
def folder(tmp_path):
    def make(architecture):
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("architecture", "module", "wheel", "how"),
    [
        ("LlamaForCausalLM", "vllm.model_executor.models.llama:", "vllm", "vLLM's own"),
        ("Qwen3ForCausalLM", "vllm_kunlun.models.qwen.", "kunlun-models-qwen", "overwritten"),
    ],
)
def test_who_runs_it(folder, architecture, module, wheel, how):
    found = registration(folder(architecture))
    assert found["class"].startswith(module)
    assert (found["architecture"], found["wheel"], found["how"]) == (architecture, wheel, how)


def test_a_class_that_vllm_does_not_have(folder, monkeypatch):
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))
    ModelRegistry.register_model("NewForCausalLM", "torch.nn:Linear")
    found = registration(folder("NewForCausalLM"))
    assert (found["class"], found["wheel"], found["how"]) == ("torch.nn:Linear", "torch", "new")


def test_one_that_nobody_has_says_what_to_do(folder):
    with pytest.raises(UnsupportedError, match=r"NobodysForCausalLM: vllm-kunlun adapt"):
        registration(folder("NobodysForCausalLM"))
