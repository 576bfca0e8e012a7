# SPDX-License-Identifier: Apache-2.0
"""Which releases of vLLM this platform was written for and tested with."""

from __future__ import annotations

from importlib import metadata

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from vllm_kunlun.platforms.errors import IncompatibleVllmError

__all__ = ["SUPPORTED_VLLM", "check_vllm", "installed_torch", "installed_vllm", "matches"]

SUPPORTED_VLLM = SpecifierSet(">=0.15.1,<0.16")


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


def check_vllm(version: str | None = None) -> None:
    """Refuse a vLLM that this platform was not written for.

    Args:
        version: the version to judge; by default that of the installed vLLM.

    Raises:
        IncompatibleVllmError: with what was found, the supported range and the command to run.
    """
    found = version if version is not None else installed_vllm()
    if matches(found, SUPPORTED_VLLM):
        return
    came = "no vLLM is installed" if found is None else f"found vLLM {found}"
    raise IncompatibleVllmError(
        f"kunlun-platform supports vLLM {_in_words(SUPPORTED_VLLM)}, but {came}: run "
        f"pip install 'vllm{_in_words(SUPPORTED_VLLM)}' "
        "(on a card, install the vendor's build of that release instead)."
    )


def _in_words(supported: SpecifierSet) -> str:
    """The range with its lower bound first: a SpecifierSet prints in no fixed order."""
    return ",".join(sorted((str(part) for part in supported), reverse=True))


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
