# SPDX-License-Identifier: Apache-2.0
"""The tree of tests that the suites run on, made in a folder of the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import tomlkit

from vllm_tests import rewrites, sdist, tree

__all__ = ["LIST", "make"]

LIST = Path(__file__).with_name("sources.toml")
OLDER, NEWER = "0.14.1", "0.16.0"


def make(cache: Path) -> Path:
    """The tree, made anew when the list has changed: files chosen, our device named in them."""
    text = LIST.read_text()
    into = cache / f"tree-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not into.exists():
        found = tomlkit.parse(text).unwrap()
        older, newer = (sdist.unpack(sdist.fetch(each, cache), cache) for each in (OLDER, NEWER))
        partial = cache / "partial-tree"
        tree.merge(older, newer, found["older"], partial)
        rewrites.apply([rewrites.Rule(**rule) for rule in found.get("rule", [])], partial)
        partial.rename(into)
    return into
