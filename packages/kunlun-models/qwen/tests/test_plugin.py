# SPDX-License-Identifier: Apache-2.0
"""Registration: by entry point, twice, lazily, and only on our platform."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import pytest

from vllm_kunlun.models.qwen import plugin
from vllm_kunlun.models.qwen.family import family


def _entry():
    return next(
        e for e in entry_points(group="vllm.general_plugins") if e.name == "kunlun_model_qwen"
    )


@pytest.fixture
def planted(monkeypatch):
    """A family with a class of ours, in a registry of its own."""
    from vllm import ModelRegistry

    ours = family().model_copy(
        update={
            "architectures": {
                "Qwen2ForCausalLM": None,
                "PlantedForCausalLM": "vllm_kunlun.models.qwen.planted:PlantedForCausalLM",
            }
        }
    )
    monkeypatch.setattr(plugin, "family", lambda: ours)
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))
    return ModelRegistry


def test_entry_point_registers_twice():
    for _ in range(2):
        _entry().load()()


def test_only_our_own_classes_are_registered_and_none_is_imported(planted, monkeypatch):
    from vllm import platforms

    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    before = planted.models["Qwen2ForCausalLM"]
    plugin.register()
    plugin.register()
    added = planted.models["PlantedForCausalLM"]
    assert (added.module_name, added.class_name) == (
        "vllm_kunlun.models.qwen.planted",
        "PlantedForCausalLM",
    )
    assert planted.models["Qwen2ForCausalLM"] is before
    assert "vllm_kunlun.models.qwen.planted" not in sys.modules


def test_another_platform_keeps_its_models(planted, monkeypatch):
    from vllm import platforms
    from vllm.platforms.interface import UnspecifiedPlatform

    monkeypatch.setattr(platforms, "_current_platform", UnspecifiedPlatform())
    plugin.register()
    assert "PlantedForCausalLM" not in planted.models
