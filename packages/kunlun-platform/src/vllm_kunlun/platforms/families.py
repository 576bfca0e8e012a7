# SPDX-License-Identifier: Apache-2.0
"""Model families: what each family wheel says of itself, found by entry point."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from vllm_kunlun.platforms import envs, version, wheels
from vllm_kunlun.platforms.entry_points import call_providers
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError

__all__ = [
    "GROUP",
    "LoadedFamilies",
    "ModelFamily",
    "ServingPreset",
    "family_for",
    "load_families",
    "served_by",
]

GROUP = "vllm_kunlun.model_families"

_RECOMMENDED: dict[str, tuple[str | int, str]] = {
    "dtype": (
        "float16",
        "the card multiplies float16 at about twice the speed of bfloat16, and bfloat16 is "
        "reported to take twice the memory; the checkpoints say bfloat16",
    ),
    "block-size": (64, "the vendor's start-up templates serve with 64"),
    **{name: (value, envs.TABLE[name].meaning) for name, value in envs.card_values().items()},
}
_EXPERTS = {
    "KUNLUN_USE_MOE_FFN_BLOCK": ("1", "recommended by the vendor for mixtures of experts"),
    "XPU_USE_MOE_SORTED_THRES": (
        "120",
        "from this number of tokens on experts run sorted, as the vendor advises",
    ),
}


class ServingPreset(BaseModel):
    """How to serve a family well; applied by ``vllm-kunlun serve`` where the user said nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    args: dict[str, str | int | float | bool] = {}
    """vLLM's engine arguments, by their command-line name without dashes in front."""
    environment: dict[str, str] = {}
    """Variables of the vendor's runtime."""
    why: dict[str, str] = {}
    """Name of an argument or variable -> the reason for its value."""

    @classmethod
    def recommended(
        cls, entries: Mapping[str, tuple[str | int, str]] | None = None, *, experts: bool = False
    ) -> ServingPreset:
        """What the vendor recommends for every model, and for mixtures of ``experts``.

        Args:
            entries: name of an argument or variable -> value and reason; they win.

        Raises:
            pydantic.ValidationError: an unknown variable, or a value that it cannot have.
        """
        chosen = {**_RECOMMENDED, **(_EXPERTS if experts else {}), **(entries or {})}
        return cls(
            args={n: value for n, (value, _) in chosen.items() if not n.isupper()},
            environment={n: str(value) for n, (value, _) in chosen.items() if n.isupper()},
            why={name: reason for name, (_, reason) in chosen.items()},
        )

    @model_validator(mode="after")
    def _check(self) -> ServingPreset:
        for name, value in self.environment.items():
            if name not in envs.TABLE:
                raise UnsupportedError(
                    f"environment variable {name!r} of the preset is unknown. "
                    "Correct the name, or add it to vllm_kunlun.platforms.envs.TABLE."
                )
            envs.TABLE[name].parse(value)
        for name in self.why:
            if name not in self.args and name not in self.environment:
                raise UnsupportedError(f"the preset explains {name!r} but does not set it.")
        return self


class ModelFamily(BaseModel):
    """One family of models: architectures, preset, quantisation, how far it is proven."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    distribution: str
    architectures: dict[str, str | None]
    """``architectures`` entry of config.json -> our ``module:Class``, or None for vLLM's class."""
    drafts: dict[str, str | None] = {}
    """Likewise for draft models that vLLM makes of a checkpoint of the family (its MTP layers)."""
    vllm: str = ""
    """Releases of vLLM that know the architectures (PEP 440); with others it is as not there."""
    preset: ServingPreset
    quantisation: tuple[str, ...] = ()
    status: str
    notes: str = ""

    @property
    def classes(self) -> dict[str, str | None]:
        """:attr:`architectures` and :attr:`drafts`."""
        return {**self.architectures, **self.drafts}

    @property
    def is_known(self) -> bool:
        """Whether the installed vLLM is one of :attr:`vllm`."""
        return not self.vllm or version.lies_in(self.vllm)

    @field_validator("architectures", "drafts")
    @classmethod
    def _check_class_paths(cls, value: dict[str, str | None]) -> dict[str, str | None]:
        for architecture, path in value.items():
            if path is not None and not re.fullmatch(r"[\w.]+:\w+", path):
                raise UnsupportedError(
                    f"{architecture}: {path!r} must read module:Class, or be None for vLLM's class."
                )
        return value


class LoadedFamilies(NamedTuple):
    """What the installed wheels say; a family is in one of the two."""

    families: dict[str, ModelFamily]
    failures: dict[str, Exception]


def load_families() -> LoadedFamilies:
    """Every installed family, by name, and by entry-point name those that failed to load.

    Raises:
        KunlunError: two families have one name, or claim one architecture.
    """
    results, failures = call_providers(GROUP)
    families: dict[str, ModelFamily] = {}
    owners: dict[str, str] = {}
    for entry, family in results.items():
        if not isinstance(family, ModelFamily):
            failures[entry] = KunlunError(
                f"entry point {entry!r} of group {GROUP!r} must give a ModelFamily, and gives "
                f"{family!r}: reinstall the wheel that provides it."
            )
            continue
        if not family.is_known:
            continue
        if (other := families.get(family.name)) is not None:
            raise KunlunError(
                f"two wheels provide the family {family.name!r}, {other.distribution} and "
                f"{family.distribution}: uninstall one of the two."
            )
        for architecture in family.classes:
            if (owner := owners.setdefault(architecture, family.name)) != family.name:
                raise KunlunError(
                    f"{architecture} is claimed by the families {owner!r} and {family.name!r}: "
                    "uninstall one of the two wheels."
                )
        families[family.name] = family
    return LoadedFamilies(families, failures)


def family_for(architecture: str) -> ModelFamily | None:
    """The installed family that serves ``architecture``, if any.

    Raises:
        KunlunError: as :func:`load_families`.
    """
    return next((f for f in load_families().families.values() if architecture in f.classes), None)


def served_by(architecture: str) -> str:
    """One sentence: the family and class that run ``architecture``, or that no family does.

    Raises:
        KunlunError: as :func:`load_families`.
    """
    family = family_for(architecture)
    if family is not None:
        ours = family.classes[architecture] or "vLLM's class"
        return f"{architecture} is of the family {family.name} ({family.distribution}): {ours}."
    text = (
        f"no installed family wheel serves {architecture}: it runs with vLLM's own class on this "
        "platform's layers, without a preset."
    )
    wheel = wheels.for_architecture(architecture)
    return f"{text} Its family's wheel: pip install {wheel}" if wheel else text
