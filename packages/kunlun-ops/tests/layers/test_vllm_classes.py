# SPDX-License-Identifier: Apache-2.0
"""vLLM's own classes in place of ours: which go, which stay."""

from __future__ import annotations

import pytest
from vllm import ModelRegistry
from vllm.model_executor import custom_op
from vllm.model_executor.models import registry
from vllm.plugins import load_general_plugins

from vllm_kunlun.ops.layers import vllm_classes


@pytest.fixture
def registries(monkeypatch):
    """Copies of vLLM's registries, with our classes in them."""
    load_general_plugins()
    monkeypatch.setattr(custom_op, "op_registry_oot", dict(custom_op.op_registry_oot))
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))


def _ours(classes):
    return {name for name, each in classes.items() if each.__module__.startswith("vllm_kunlun.")}


def test_our_layers_go_and_those_without_a_form_of_vllms_stay(registries):
    before = _ours(custom_op.op_registry_oot)
    replaced = vllm_classes.use_vllm_classes()
    assert before - _ours(custom_op.op_registry_oot) == before - vllm_classes.KEPT
    assert {"RMSNorm", "SiluAndMul", "RotaryEmbedding"} <= set(replaced)
    assert _ours(custom_op.op_registry_oot) == vllm_classes.KEPT


def test_our_model_classes_go(registries):
    replaced = vllm_classes.use_vllm_classes()
    assert "Qwen3ForCausalLM" in replaced
    assert ModelRegistry.models["Qwen3ForCausalLM"].module_name.endswith("models.qwen3")
    assert ModelRegistry.models["Qwen3ForCausalLM"].class_name == "Qwen3ForCausalLM"


def test_a_class_of_vllm_s_may_lie_elsewhere(registries, monkeypatch):
    place = ("vllm.models.qwen3", "Qwen3ForCausalLM")
    monkeypatch.setitem(registry._VLLM_MODELS, "Qwen3ForCausalLM", place)
    vllm_classes.use_vllm_classes()
    found = ModelRegistry.models["Qwen3ForCausalLM"]
    assert (found.module_name, found.class_name) == place


def test_a_layer_of_another_plugin_stays(registries):
    theirs = type("Theirs", (), {"__module__": "another.plugin"})
    custom_op.op_registry_oot["Theirs"] = theirs
    vllm_classes.use_vllm_classes()
    assert custom_op.op_registry_oot["Theirs"] is theirs


def test_a_caller_may_keep_others(registries):
    vllm_classes.use_vllm_classes({"SparseAttnIndexer"})
    assert _ours(custom_op.op_registry_oot) == {"SparseAttnIndexer"}
