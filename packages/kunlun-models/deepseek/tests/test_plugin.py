# SPDX-License-Identifier: Apache-2.0
"""The entry point puts this wheel's classes, and no others, into vLLM's registry."""

from __future__ import annotations

from importlib.metadata import entry_points

from vllm import ModelRegistry, platforms

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.kunlun import KunlunPlatform


def test_entry_point_registers_our_classes(monkeypatch):
    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    # Loading vLLM's plugins may have registered them before this test: start without.
    models = {
        name: model
        for name, model in ModelRegistry.models.items()
        if not getattr(model, "module_name", "").startswith("vllm_kunlun.")
    }
    monkeypatch.setattr(ModelRegistry, "models", models)
    before = dict(models)
    group = entry_points(group="vllm.general_plugins")
    next(entry for entry in group if entry.name == "kunlun_model_deepseek").load()()
    changed = {
        name: (model.module_name, model.class_name)
        for name, model in models.items()
        if model is not before.get(name)
    }
    with_glm = {}
    if version.lies_in(version.V0_33):  # earlier ones have no such class
        with_glm["GlmMoeDsaForCausalLM"] = (
            "vllm_kunlun.models.deepseek.deepseek_v2",
            "KunlunDeepseekV32ForCausalLM",
        )
    assert changed == with_glm | {
        "DeepSeekMTPModel": ("vllm_kunlun.models.deepseek.deepseek_mtp", "KunlunDeepSeekMTP"),
        "DeepseekV32MTPModel": ("vllm_kunlun.models.deepseek.deepseek_mtp", "KunlunDeepSeekMTP"),
        "DeepseekV32ForCausalLM": (
            "vllm_kunlun.models.deepseek.deepseek_v2",
            "KunlunDeepseekV32ForCausalLM",
        ),
    }
