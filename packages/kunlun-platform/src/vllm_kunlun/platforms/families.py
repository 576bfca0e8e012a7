# SPDX-License-Identifier: Apache-2.0
"""Model families: what each family wheel says of itself, found by entry point."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from vllm_kunlun.platforms.entry_points import load_group
from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["GROUP", "LoadedFamilies", "ModelFamily", "ServingPreset", "family_for", "load_families"]

GROUP = "vllm_kunlun.model_families"


class ServingPreset(BaseModel):
    """How to serve a family well; applied by ``vllm-kunlun serve`` where the user said nothing."""

    model_config = ConfigDict(frozen=True)

    args: dict[str, str | int | float | bool] = {}
    """vLLM's engine arguments, by their command-line name without dashes in front."""
    environment: dict[str, str] = {}
    """Variables of the vendor's runtime."""
    why: dict[str, str] = {}
    """Name of an argument or variable -> the reason for its value."""


class ModelFamily(BaseModel):
    """One family of models: architectures, preset, quantisation, how far it is proven."""

    model_config = ConfigDict(frozen=True)

    name: str
    distribution: str
    architectures: dict[str, str | None]
    """``architectures`` entry of config.json -> our ``module:Class``, or None for vLLM's class."""
    preset: ServingPreset
    quantisation: tuple[str, ...] = ()
    status: str
    notes: str = ""


class LoadedFamilies(NamedTuple):
    families: dict[str, ModelFamily]
    failures: dict[str, Exception]


def load_families() -> LoadedFamilies:
    """Every installed family, by name, and the entry points that failed to load.

    Raises:
        KunlunError: two families claim one architecture.
    """
    providers, failures = load_group(GROUP)
    families: dict[str, ModelFamily] = {}
    owners: dict[str, str] = {}
    for provider in providers.values():
        family: ModelFamily = provider()
        for architecture in family.architectures:
            if (owner := owners.setdefault(architecture, family.name)) != family.name:
                raise KunlunError(
                    f"{architecture} is claimed by the families {owner!r} and {family.name!r}: "
                    "uninstall one of the two wheels."
                )
        families[family.name] = family
    return LoadedFamilies(families, failures)


def family_for(architecture: str) -> ModelFamily | None:
    """The installed family that serves ``architecture``, if any."""
    return next(
        (f for f in load_families().families.values() if architecture in f.architectures), None
    )
