# SPDX-License-Identifier: Apache-2.0
"""One tree of tests for vLLM 0.15.1 out of the releases before and after it.

A file that both releases have in the same words is what 0.15.1 has. Of any other file the newer
one is taken, unless ``from_older`` names it: the one whose tested module fits 0.15.1.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vllm_tests.errors import UpstreamError

__all__ = ["merge"]


def merge(older: Path, newer: Path, from_older: list[str], into: Path) -> None:
    """Write the tree ``into`` anew: ``newer``, with the files ``from_older`` of ``older``.

    Raises:
        UpstreamError: a named file does not exist in ``older``, or is the same in both.
    """
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(newer, into)
    for name in from_older:
        if not (older / name).is_file():
            raise UpstreamError(f"{name} is not in {older.name}: take it off the list")
        if (newer / name).is_file() and (newer / name).read_bytes() == (older / name).read_bytes():
            raise UpstreamError(f"{name} is the same in both releases: take it off the list")
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(older / name, into / name)
