# SPDX-License-Identifier: Apache-2.0
"""Which releases of vLLM this platform was tested with, and what it does with another one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from importlib import metadata

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import IncompatibleVllmError

__all__ = [
    "EVERY",
    "TESTED_VLLM",
    "UNTIL_0_16",
    "V0_15",
    "V0_16",
    "V0_33",
    "WRITTEN_FOR",
    "check_vllm",
    "installed_is_from",
    "installed_torch",
    "installed_vllm",
    "is_written_for",
    "lies_in",
    "matches",
    "overlap",
    "tested_as",
    "tested_in_words",
]

logger = logging.getLogger("vllm.kunlun")

V0_15 = ">=0.15.1,<0.16"
V0_16 = ">=0.16.0,<0.17"
V0_33 = ">=0.33.0,<0.34"
UNTIL_0_16 = ">=0.15.1,<0.17"
"""Both of the first two, where they do not differ and a later one does."""
EVERY = ">=0.15.1,<0.34"
"""From the first release that ledger entries are written for to the last."""

WRITTEN_FOR = (V0_15, V0_16, V0_33)
"""The releases that ledger entries tell apart: in each of them an entry says whether it acts."""

TESTED_VLLM: Mapping[str, str] = {"0.15.1": V0_15, "0.16.0": V0_16, "0.33.0": V0_33}
"""The releases that the tests run with, each with the range of those that count as it.

The first one comes with ``vllm-kunlun[all]`` and runs everything; what a later one does not run yet
is refused by name (``vllm_compat/not_yet.py``).
"""


def installed_vllm() -> str | None:
    """Version of the installed vLLM as its metadata states it; None if there is none.

    vLLM itself is not imported.
    """
    return _installed("vllm")


def installed_torch() -> str | None:
    """The same of torch, which is not imported either."""
    return _installed("torch")


def matches(version: str | None, supported: SpecifierSet) -> bool:
    """Whether ``version`` lies in ``supported``.

    A vendor's build counts as the release it was built from (``0.15.1+xpu`` as ``0.15.1``). None,
    and a version that PEP 440 cannot order, match nothing.
    """
    if version is None:
        return False
    try:
        return supported.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def installed_is_from(release: str) -> bool:
    """Whether the installed vLLM is ``release`` or later; so is one that PEP 440 cannot order.

    For the folders ``vllm_compat`` alone: whatever else differs between releases is an entry of a
    ledger, or asks for the thing itself.
    """
    found = installed_vllm()
    try:
        return found is not None and Version(found) >= Version(f"{release}.dev0")
    except InvalidVersion:
        return True


def lies_in(releases: str) -> bool:
    """Whether the installed vLLM is one of ``releases``, as PEP 440 writes them.

    For what a family says of itself.
    """
    return matches(installed_vllm(), SpecifierSet(releases))


def overlap(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Whether a version can lie in both ranges.

    Ranges are intervals: if two of them meet, they meet at a bound, right above one, or at the
    beginning of all versions.
    """
    bounds = {part.version.removesuffix(".*") for part in (*one, *other)}
    probes = {"0", *bounds, *(f"{Version(bound).base_version}.0.0.1" for bound in bounds)}
    return any(matches(probe, one) and matches(probe, other) for probe in probes)


def tested_as(version: str | None) -> str | None:
    """The tested release that ``version`` counts as; None if it was not tested."""
    for release, those in TESTED_VLLM.items():
        if matches(version, SpecifierSet(those)):
            return release
    return None


def is_written_for(version: str | None) -> bool:
    """Whether ``version`` lies in a range of :data:`WRITTEN_FOR`, tested or not yet."""
    return any(matches(version, SpecifierSet(those)) for those in WRITTEN_FOR)


def tested_in_words() -> str:
    """The ranges of the tested releases: ``>=0.15.1,<0.16 or >=...``."""
    return " or ".join(TESTED_VLLM.values())


def check_vllm(version: str | None = None) -> None:
    """Refuse a vLLM that this platform was not tested with, unless the user wants to try it.

    With ``VLLM_KUNLUN_ALLOW_UNTESTED_VLLM=1`` an untested release is a warning, once a process; a
    part of vLLM that a ledger replaces must then still be that of a tested release.

    Args:
        version: the version to judge; by default that of the installed vLLM.

    Raises:
        IncompatibleVllmError: with what was found, what is tested and the command to run.
    """
    found = version if version is not None else installed_vllm()
    if tested_as(found) is not None:
        return
    if found is not None and envs.VLLM_KUNLUN_ALLOW_UNTESTED_VLLM:
        _warn(found)
        return
    came = "no vLLM is installed" if found is None else f"found vLLM {found}, which is untested"
    anyway = (
        "" if found is None else ", or set VLLM_KUNLUN_ALLOW_UNTESTED_VLLM=1 to try it all the same"
    )
    raise IncompatibleVllmError(
        f"kunlun-platform was tested with vLLM {tested_in_words()}, but {came}: run "
        f"pip install 'vllm{next(iter(TESTED_VLLM.values()))}' "
        f"(on a card, install the vendor's build of that release instead){anyway}."
    )


@cache
def _warn(found: str) -> None:
    logger.warning(
        "vLLM %s is untested with kunlun-platform; tested is %s. "
        "VLLM_KUNLUN_ALLOW_UNTESTED_VLLM=1 lets it run: hold its answers against a tested one.",
        found,
        tested_in_words(),
    )


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
