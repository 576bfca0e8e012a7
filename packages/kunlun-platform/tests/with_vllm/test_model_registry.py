# SPDX-License-Identifier: Apache-2.0
"""A family's own classes in vLLM's registry: twice, lazily, and only on our platform."""

from __future__ import annotations

import sys

import pytest
from vllm import ModelRegistry, platforms
from vllm.platforms.interface import UnspecifiedPlatform

from vllm_kunlun.platforms.families import ModelFamily, ServingPreset
from vllm_kunlun.platforms.kunlun import KunlunPlatform
from vllm_kunlun.platforms.model_registry import register_models

MODULE = "vllm_kunlun.models.planted"
FAMILY = ModelFamily(
    name="planted",
    distribution="kunlun-models-planted",
    architectures={"Qwen2ForCausalLM": None, "PlantedForCausalLM": f"{MODULE}:PlantedForCausalLM"},
    preset=ServingPreset(),
    status="planted",
)


@pytest.fixture
def models(monkeypatch):
    models = dict(ModelRegistry.models)
    monkeypatch.setattr(ModelRegistry, "models", models)
    return models


def test_only_own_classes_are_registered_and_none_is_imported(models, monkeypatch):
    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    before = dict(models)
    register_models(FAMILY)
    register_models(FAMILY)
    assert {name for name in models if models[name] is not before.get(name)} == {
        "PlantedForCausalLM"
    }
    added = models["PlantedForCausalLM"]
    assert (added.module_name, added.class_name) == (MODULE, "PlantedForCausalLM")
    assert MODULE not in sys.modules


def test_a_class_of_ours_replaces_vllms_without_a_warning(models, monkeypatch, caplog):
    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    path = f"{MODULE}:PlantedForCausalLM"
    register_models(FAMILY.model_copy(update={"architectures": {"Qwen2ForCausalLM": path}}))
    assert models["Qwen2ForCausalLM"].module_name == MODULE
    assert not caplog.records


def test_a_family_of_another_vllm_is_left_out(models, monkeypatch):
    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    before = dict(models)
    register_models(FAMILY.model_copy(update={"vllm": ">=9"}))
    assert models == before


def test_another_platform_keeps_its_models(models, monkeypatch):
    monkeypatch.setattr(platforms, "_current_platform", UnspecifiedPlatform())
    before = dict(models)
    register_models(FAMILY)
    assert models == before
