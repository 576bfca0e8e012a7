# SPDX-License-Identifier: Apache-2.0
"""Versions of a wheel and the tags that name them: ``kunlun-quant-v0.2.0``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

__all__ = [
    "PARTS",
    "bound",
    "candidate",
    "is_candidate",
    "next_post",
    "next_version",
    "of_tag",
    "tag",
]

PARTS = ("major", "minor", "patch")
_VERSION = r"(\d+)\.(\d+)\.(\d+)"


def next_version(version: str, part: str) -> str:
    """``version`` with ``part`` one higher and what stands behind it zero.

    Exits unless ``version`` is three numbers.
    """
    found = re.fullmatch(_VERSION, version)
    if found is None:
        sys.exit(f"the version {version!r} in pyproject.toml must be three numbers, such as 0.1.0")
    numbers = [int(number) for number in found.groups()]
    place = PARTS.index(part)
    raised = [*numbers[:place], numbers[place] + 1, 0, 0][: len(PARTS)]
    return ".".join(map(str, raised))


def next_post(version: str, part: str) -> str:
    """As :func:`next_version` for the meta-package: vLLM's version with one more ``.postN``.

    Exits for a ``part`` but patch: vLLM's own version is written by hand.
    """
    if part != "patch":
        sys.exit(
            f"the meta-package follows vLLM's version, so it has no {part} release of its own: "
            "write vLLM's version with .post0 into pyproject.toml, and release a patch"
        )
    base, _, post = version.partition(".post")
    if re.fullmatch(_VERSION, base) is None or not post.isdigit():
        sys.exit(f"the version {version!r} in pyproject.toml must be vLLM's and .postN, such as "
                 "0.15.1.post1")  # fmt: skip
    return f"{base}.post{int(post) + 1}"


def candidate(name: str, version: str, tags: Iterable[str]) -> str:
    """The first candidate of ``version`` that none of ``tags`` names, as ``0.2.0rc1``."""
    start = re.escape(tag(name, f"{version}rc"))
    taken = [int(found[1]) for each in tags if (found := re.fullmatch(rf"{start}(\d+)", each))]
    return f"{version}rc{max(taken, default=0) + 1}"


def is_candidate(version: str) -> bool:
    return "rc" in version


def bound(name: str, version: str) -> str:
    """What a dependent asks for: this version's minor and its bug fixes.

    No final bound lets a candidate in, so one is named as the lowest.
    """
    major, minor = map(int, version.split(".")[:2])
    lowest = version if is_candidate(version) else f"{major}.{minor}"
    return f"{name}>={lowest},<{major}.{minor + 1}"


def tag(name: str, version: str) -> str:
    return f"{name}-v{version}"


def of_tag(text: str) -> tuple[str, str]:
    """Name and version of a tag; exits if it names none."""
    found = re.fullmatch(rf"(.+)-v({_VERSION}(?:rc\d+|\.post\d+)?)", text)
    if found is None:
        sys.exit(f"the tag {text!r} must be NAME-vVERSION, such as kunlun-quant-v0.2.0 or ...rc1")
    return found[1], found[2]
