# SPDX-License-Identifier: Apache-2.0
"""Which of the manual's cases a model is: what there is to do before it runs."""

from __future__ import annotations

from typing import Any, NamedTuple

from vllm_kunlun.cli.serving.templates import experts_of
from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.families import family_for

__all__ = ["Case", "case_of", "classes_of_vllm"]

_ADAPT = "vllm-kunlun adapt MODEL --out DIR writes it as far as transformers has one"


class Case(NamedTuple):
    """One of the manual's four.

    Attributes:
        letter: A, B, C or D.
        reason: in words.
        todo: what to do next.
        wheel: the family wheel that covers it, installed or not.
    """

    letter: str
    reason: str
    todo: str
    wheel: str | None


def classes_of_vllm() -> set[str]:
    """Architectures that vLLM, or a wheel, has a class for.

    One that vLLM runs by transformers' own class is none: its layers are not the card's.
    """
    from vllm import ModelRegistry

    return {
        name
        for name, model in ModelRegistry.models.items()
        if ".transformers" not in getattr(model, "module_name", "")
    }


def case_of(architecture: str, config: dict[str, Any], supported: set[str]) -> Case:
    """The case of ``architecture``.

    Args:
        architecture: first of ``architectures`` in config.json.
        config: config.json.
        supported: architectures that the installed vLLM and wheels have a class for.
    """
    family = family_for(architecture)
    wheel = family.distribution if family else wheels.for_architecture(architecture)
    if architecture in supported:
        several = "vision_config" in config or "audio_config" in config
        reason = f"vLLM has {architecture}, and its layers are the card's on this platform" + (
            "; its vision or audio part included" if several else ""
        )
        todo = "no file is needed: serve it, and compare with HF transformers"
        if family is None and wheel:
            todo = f"pip install {wheel}, which has its preset"
        return Case("D" if several else "A", reason, todo, wheel)
    if "vision_config" in config or "audio_config" in config:
        return Case(
            "D", f"vLLM has no {architecture}, which has more than a language model",
            "write its classes for vLLM: encoder, projector, and the language model if vLLM "
            "lacks that, too", wheel,
        )  # fmt: skip
    dense = architecture.replace("Moe", "").replace("MoE", "")
    if experts_of(config) and dense in supported:
        return Case(
            "C", f"vLLM has no {architecture}, and has {dense}, which it adds experts to",
            f"write a class on top of {dense} with experts in place of its feed-forward layers "
            f"({_ADAPT})",
            wheel,
        )  # fmt: skip
    return Case(
        "B", f"vLLM has no {architecture}",
        f"write its class for vLLM ({_ADAPT})", wheel,
    )  # fmt: skip
