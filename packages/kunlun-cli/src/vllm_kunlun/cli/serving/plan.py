# SPDX-License-Identifier: Apache-2.0
"""What ``vllm-kunlun serve`` will do: the user's options, and a preset's in their gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vllm_kunlun.cli.serving.options import given
from vllm_kunlun.cli.serving.templates import TemplateName, template, template_of
from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

__all__ = ["NOTHING", "Chosen", "Plan", "choose", "plan"]


class Chosen(NamedTuple):
    """A preset, and whose it is, as a phrase."""

    source: str
    preset: ServingPreset


class Plan(NamedTuple):
    """The arguments of ``vllm`` and the variables to set, if not set."""

    argv: list[str]
    environment: dict[str, str]
    applied: dict[str, str]
    """Preset argument -> why, for those that the user did not give."""


NOTHING = ServingPreset()


def choose(
    architecture: str | None, configuration: dict[str, Any] | None, family: ModelFamily | None,
    asked: TemplateName | None = None,
) -> Chosen:  # fmt: skip
    """The preset for a model: the template asked for, else its family's, else a template's.

    Args:
        architecture: first of its ``architectures``; None if its config.json is not on this disk.
        configuration: its config.json, or None.
        family: the installed family that names the architecture.
        asked: a template by name.
    """
    if asked is not None:
        return Chosen(*template(asked, configuration or {}))
    if family is not None:
        return Chosen(f"preset of the {family.name} family", family.preset)
    if architecture is None or configuration is None:
        return Chosen(
            "its config.json is not on this disk, so no preset was chosen (--template names one)",
            NOTHING,
        )
    name = template_of(architecture, configuration)
    if name is None:
        return Chosen("no preset: it does not generate text, for which they are", NOTHING)
    return Chosen(*template(name, configuration))


def plan(model: str, user: Sequence[str], preset: ServingPreset) -> Plan:
    """The arguments for vLLM: the user's, then those of the preset that the user did not give.

    Raises:
        UnsupportedError: the file that the user's ``--config`` names cannot be read.
    """
    argv = ["vllm", "serve", model, *user]
    settled = {option.settles for option in given(user)}
    applied = {}
    for name, value in preset.args.items():
        if name in settled:
            continue
        argv += _flag(name, value)
        applied[name] = preset.why.get(name, "")
    return Plan(argv, dict(preset.environment), applied)


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]
