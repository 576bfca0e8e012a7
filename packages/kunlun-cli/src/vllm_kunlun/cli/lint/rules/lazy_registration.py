# SPDX-License-Identifier: Apache-2.0
"""Model classes that are registered as classes, or by a name that leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import libcst as cst

from vllm_kunlun.cli.lint.finding import Hit, Rule
from vllm_kunlun.cli.lint.installed import defines, module_file
from vllm_kunlun.cli.lint.rules.registration import registrations
from vllm_kunlun.cli.lint.source import Source, strings, text

__all__ = ["RULE"]

_LAZY = re.compile(r"[\w.]+:\w+")


def check(source: Source) -> Iterator[Hit]:
    """The second half of each registration."""
    for _, model in registrations(source):
        if text(model) == "None":  # vLLM's own class
            continue
        if (isinstance(model, cst.Name) and source.imports.get(model.value)) or (
            isinstance(model, cst.Attribute | cst.Call)
            or (isinstance(model, cst.Name) and model.value in source.classes)
        ):
            yield Hit(model, f"{text(model)} is a class, not the text module:Class")
            continue
        for name in strings(model):
            if not _LAZY.fullmatch(name):
                yield Hit(model, f"{name!r} is not of the form module:Class")
                continue
            module, _, last = name.partition(":")
            file = _beside(source.file, module) or module_file(module)
            if file is None:
                continue  # of a package that is not here
            names = defines(file)
            if names is not None and last not in names:
                yield Hit(model, f"{module} has no class {last}")


def _beside(file: Path, module: str) -> Path | None:
    """The module's file in the tree that ``file`` is in."""
    parts = Path(*module.split("."))
    for folder in file.absolute().parents:
        for found in (folder / parts.with_suffix(".py"), folder / parts / "__init__.py"):
            if found.is_file():
                return found
    return None


RULE = Rule(
    name="lazy-registration",
    finds="a model registered as a class instead of the text `module:Class`, or one that is absent",
    why="importing a model class when the plugin loads starts the device in the parent process, "
    "and the workers fail with 'Cannot re-initialize CUDA in forked subprocess'",
    fix='register it as text: "package.module:ClassName"',
    check=check,
)
