# SPDX-License-Identifier: Apache-2.0
"""Models that are registered under a name that no configuration has."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.installed import module_file
from vllm_kunlun.cli.lint.rules.registration import registrations
from vllm_kunlun.cli.lint.source import Source, strings

__all__ = ["RULE"]


def check(source: Source) -> Iterator[Hit]:
    """The first half of each registration, against configurations in the tree and known names."""
    found = [(node, name) for node, _ in registrations(source) for name in strings(node)]
    if not found:
        return
    asked = _configurations(source.file)
    for node, name in found:
        if meant := _meant(name, {*asked, *_known()}):
            yield Hit(node, f"{name} is written {meant} in config.json")
    if asked and not asked & {name for _, name in found}:
        wanted = ", ".join(sorted(asked))
        yield Hit(found[0][0], f"config.json beside this file asks for {wanted}")


def _meant(name: str, known: set[str]) -> str | None:
    """A known name that differs in capitals and underscores only."""
    if name in known:
        return None
    plain = {each.replace("_", "").lower(): each for each in known}
    return plain.get(name.replace("_", "").lower())


def _configurations(file: Path) -> set[str]:
    """``architectures`` of the configurations in the folder of ``file``."""
    found: set[str] = set()
    for config in file.absolute().parent.glob("config.json"):
        try:
            content = json.loads(config.read_bytes())
        except ValueError:
            continue  # no configuration of a model, so it asks for nothing
        names = content.get("architectures") if isinstance(content, dict) else None
        found |= {each for each in names or () if isinstance(each, str)}
    return found


@functools.cache
def _known() -> frozenset[str]:
    """Names in vLLM's own table, if vLLM is installed."""
    file = module_file("vllm.model_executor.models.registry")
    if file is None:
        return frozenset()
    return frozenset(re.findall(r'^    "(\w+)": \(', file.read_text(encoding="utf-8"), re.M))


RULE = Rule(
    name="registered-name",
    finds="a registered name that differs from `architectures` in config.json",
    why="vLLM looks the class up by that entry, letter for letter: the model is refused as not "
    "supported, or vLLM's own class is taken",
    fix="register the name that config.json has",
    check=check,
)
