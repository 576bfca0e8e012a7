# SPDX-License-Identifier: Apache-2.0
"""Which class runs an architecture, and who brings it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from vllm_kunlun.cli.configuration import architecture_of
from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.families import family_for

__all__ = ["registration"]


def registration(model: Path) -> dict[str, Any]:
    """The manual's third step: ``architecture``, ``class``, ``wheel`` and ``how``.

    ``how`` is ``vLLM's own``, ``overwritten`` (vLLM has the architecture, and another class runs
    it) or ``new``.

    Raises:
        UnsupportedError: nothing has a class for it.
    """
    from vllm import ModelRegistry
    from vllm.model_executor.models.registry import _VLLM_MODELS
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    architecture = architecture_of(str(model))
    assert architecture is not None, "a folder without config.json is refused before"
    found = ModelRegistry.models.get(architecture)
    if found is None:
        wheel = wheels.for_architecture(architecture)
        adapt = f"vllm-kunlun adapt {model} --out DIR writes one and a wheel around it"
        todo = f"pip install {wheel}" if wheel else adapt
        raise UnsupportedError(f"neither vLLM nor a wheel has a class for {architecture}: {todo}.")
    module, name = _class_of(found)
    own = module.startswith("vllm.")
    family = family_for(architecture)
    wheel = "vllm" if own else family.distribution if family else _distribution(module)
    return {
        "architecture": architecture,
        "class": f"{module}:{name}",
        "wheel": wheel,
        "how": "vLLM's own" if own else "overwritten" if architecture in _VLLM_MODELS else "new",
    }


def _class_of(found: Any) -> tuple[str, str]:
    """Of a class that was registered by its path, or as it is."""
    kind = getattr(found, "model_cls", None)
    if kind is not None:
        return kind.__module__, kind.__qualname__
    return found.module_name, found.class_name


def _distribution(module: str) -> str | None:
    return next(iter(metadata.packages_distributions().get(module.partition(".")[0], ())), None)
