# SPDX-License-Identifier: Apache-2.0
"""vLLM's own classes in place of ours: to be measured beside ours, or to judge them."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["KEPT", "use_vllm_classes"]

KEPT = frozenset({"UnquantizedFusedMoEMethod", "SparseAttnIndexer"})
"""Layers of which vLLM has no form that runs without its own kernels."""


def use_vllm_classes(kept: Collection[str] = KEPT) -> list[str]:
    """Take our layers and models out of vLLM's registries, for the life of the process.

    What answers in vLLM's place stays: the attention backend with its cache, the quantised layers,
    what redirects and patches put in place of kernels, and the layers named by ``kept``.

    Returns:
        Names of the classes that are vLLM's now.
    """
    from vllm import ModelRegistry
    from vllm.model_executor.custom_op import op_registry_oot
    from vllm.model_executor.models.registry import _VLLM_MODELS, _LazyRegisteredModel
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    layers = [
        name
        for name, layer in op_registry_oot.items()
        if layer.__module__.startswith("vllm_kunlun.") and name not in kept
    ]
    for name in layers:
        del op_registry_oot[name]
    models = [
        name
        for name, model in ModelRegistry.models.items()
        if getattr(model, "module_name", "").startswith("vllm_kunlun.") and name in _VLLM_MODELS
    ]
    for name in models:
        module, kind = _VLLM_MODELS[name]
        if not module.startswith("vllm."):  # 0.33 has packages of some models elsewhere
            module = f"vllm.model_executor.models.{module}"
        ModelRegistry.models[name] = _LazyRegisteredModel(module_name=module, class_name=kind)
    return sorted([*layers, *models])
