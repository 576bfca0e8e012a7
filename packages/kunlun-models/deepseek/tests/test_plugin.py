# SPDX-License-Identifier: Apache-2.0
"""Registration: by entry point, twice, lazily, and only on our platform."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from vllm import ModelRegistry, platforms
from vllm.platforms.interface import UnspecifiedPlatform

from vllm_kunlun.platforms.kunlun import KunlunPlatform

OURS = "vllm_kunlun.models.deepseek.v32"


def _register() -> None:
    group = entry_points(group="vllm.general_plugins")
    next(entry for entry in group if entry.name == "kunlun_model_deepseek").load()()


@pytest.fixture
def registry(monkeypatch):
    """vLLM's registry as it is without this wheel."""
    models = dict(ModelRegistry.models)
    models["DeepseekV32ForCausalLM"] = models["DeepseekV3ForCausalLM"]
    monkeypatch.setattr(ModelRegistry, "models", models)
    return models


def test_only_the_sparse_model_has_a_class_of_ours(registry, monkeypatch):
    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    before = dict(registry)
    _register()
    _register()
    changed = {name for name in registry if registry[name] is not before[name]}
    assert changed == {"DeepseekV32ForCausalLM"}
    added = registry["DeepseekV32ForCausalLM"]
    assert (added.module_name, added.class_name) == (OURS, "KunlunDeepseekV32ForCausalLM")


def test_another_platform_keeps_its_models(registry, monkeypatch):
    monkeypatch.setattr(platforms, "_current_platform", UnspecifiedPlatform())
    before = dict(registry)
    _register()
    assert registry == before
