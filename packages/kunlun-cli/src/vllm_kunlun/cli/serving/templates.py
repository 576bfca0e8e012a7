# SPDX-License-Identifier: Apache-2.0
"""The manual's start-up templates, for models that no installed family has a preset for."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from vllm_kunlun.platforms.families import ServingPreset

__all__ = ["NAMES", "TemplateName", "experts_of", "template", "template_of"]

TemplateName = Literal["dense", "moe", "latent"]

NAMES: tuple[TemplateName, ...] = ("dense", "moe", "latent")
"""The manual's A, B and C."""

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Names under which configurations say how many experts a layer has."""

_LATENT = {"USE_ORI_ROPE": ("1", "the manual's template for latent attention sets it")}


class _Kind(NamedTuple):
    letter: str
    model: str


_KINDS: dict[TemplateName, _Kind] = {
    "dense": _Kind("A", "a dense model"),
    "moe": _Kind("B", "a mixture of experts"),
    "latent": _Kind("C", "latent attention (MLA)"),
}


def template_of(architecture: str, configuration: dict[str, Any]) -> TemplateName | None:
    """The template for a model; None where it does not generate text, as the manual's do.

    Args:
        architecture: first of its ``architectures``.
        configuration: its config.json.
    """
    from vllm.config.model import try_match_architecture_defaults

    if not try_match_architecture_defaults(architecture, runner_type="generate"):
        return None
    if _has(configuration, ("kv_lora_rank",)):
        return "latent"
    return "moe" if experts_of(configuration) else "dense"


def experts_of(configuration: dict[str, Any]) -> bool:
    """Whether a config.json, or its ``text_config``, says that layers have experts."""
    return _has(configuration, _EXPERTS)


def template(name: TemplateName, configuration: dict[str, Any]) -> tuple[str, ServingPreset]:
    """What the template is called, and its preset: float16, unless vLLM refuses that for the model.

    The variables that the vendor recommends for every model and, for experts and latent attention,
    those of the manual's appendix.
    """
    from vllm.config.model import _FLOAT16_NOT_SUPPORTED_MODELS

    kind = _KINDS[name]
    entries: dict[str, tuple[str | int, str]] = dict(_LATENT if name == "latent" else {})
    if refusal := _FLOAT16_NOT_SUPPORTED_MODELS.get(configuration.get("model_type", "")):
        entries["dtype"] = ("bfloat16", f"vLLM refuses float16 for it: {refusal}")
    experts = name == "moe" or (name == "latent" and experts_of(configuration))
    preset = ServingPreset.recommended(entries, experts=experts)
    return f"template {kind.letter} for {kind.model}", preset


def _has(configuration: dict[str, Any], names: tuple[str, ...]) -> bool:
    inner = configuration.get("text_config")
    places = [configuration, inner] if isinstance(inner, dict) else [configuration]
    return any(place.get(name) for place in places for name in names)
