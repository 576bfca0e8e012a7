# SPDX-License-Identifier: Apache-2.0
"""A patch or an addition applied to the live module, and what undoes it."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from vllm_kunlun.platforms.errors import PatchError
from vllm_kunlun.platforms.ledger.entries import Addition, Entry, Patch
from vllm_kunlun.platforms.ledger.module_source import locate

__all__ = ["Added", "Replaced", "apply", "copies_of"]

logger = logging.getLogger("vllm.kunlun")


@dataclass(frozen=True)
class Replaced:
    """An applied :class:`~vllm_kunlun.platforms.ledger.entries.Patch`."""

    holder: Any
    attribute: str
    raw: Any
    """As the holder's namespace has it: a classmethod stays one when it is put back."""
    original: Any
    replacement: Any

    def undo(self) -> None:
        """Put the original back, unless someone else has replaced ours since."""
        if vars(self.holder).get(self.attribute) is self.replacement:
            setattr(self.holder, self.attribute, self.raw)


@dataclass(frozen=True)
class Added:
    """An applied :class:`~vllm_kunlun.platforms.ledger.entries.Addition`."""

    table: dict[Any, Any] | set[Any]
    entries: dict[Any, Any]
    """What was put in: only what was not there."""

    def undo(self) -> None:
        """Take out what was put in, unless someone else has replaced it since."""
        for key, value in self.entries.items():
            if isinstance(self.table, set):
                self.table.discard(key)
            elif self.table.get(key) is value:
                del self.table[key]


def apply(entry: Entry, module: ModuleType) -> Replaced | Added:
    """Change ``module``; a fresh copy of a module that was patched is patched afresh.

    Raises:
        PatchError: the target is not there, is of another kind, or was replaced by someone else;
            or our replacement cannot be imported. Nothing is changed then.
    """
    return _replace(entry, module) if isinstance(entry, Patch) else _add(entry, module)


def copies_of(patch: Patch, original: Any) -> list[str]:
    """Modules that hold ``original`` under its own name, ours (which may call it) apart."""
    name = patch.target.rpartition(".")[2].rpartition(":")[2]
    ours = patch.replacement.partition(":")[0]
    return sorted(
        module.__name__
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType)
        and object.__getattribute__(module, "__dict__").get(name) is original
        and module.__name__ != ours
    )


def _replace(patch: Patch, module: ModuleType) -> Replaced:
    *parents, attribute = patch.target.partition(":")[2].split(".")
    holder: Any = module
    for part in parents:
        holder = getattr(holder, part, None)
    if holder is None or attribute not in vars(holder):
        raise PatchError(
            f"{patch.label}: {patch.target} is not there after the import of {module}, "
            "though its source defines it. Import vllm.platforms before that module."
        )
    raw, current = vars(holder)[attribute], getattr(holder, attribute)
    _check_untouched(patch, current)
    replacement = _load(patch, patch.replacement)
    if isinstance(raw, (staticmethod, classmethod)) and inspect.isfunction(replacement):
        replacement = type(raw)(replacement)
    setattr(holder, attribute, replacement)
    if copies := copies_of(patch, current):
        logger.warning(
            "Patch %r comes after %s copied the original.", patch.name, ", ".join(copies)
        )
    return Replaced(holder, attribute, raw, current, replacement)


def _add(addition: Addition, module: ModuleType) -> Added:
    table: Any = module
    for part in addition.target.partition(":")[2].split("."):
        table = getattr(table, part, None)
    if not isinstance(table, (dict, set)):
        raise PatchError(
            f"{addition.label}: {addition.target} must be a dict or a set, and is {table!r} "
            f"in {module}. {addition.update}"
        )
    entries = _load(addition, addition.entries)(table)
    missing = {key: value for key, value in entries.items() if key not in table}
    table.update(missing)  # of a set: the keys
    return Added(table, missing)


def _load(entry: Entry, ours: str) -> Any:
    module, _, path = ours.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise PatchError(
            f"{entry.label}: its replacement {ours} cannot be imported "
            f"({type(error).__name__}: {error}). Reinstall the wheel that holds it."
        ) from error
    return found


def _check_untouched(patch: Patch, current: Any) -> None:
    """The hash is of the file: make sure that the live function is the one in the file."""
    code = getattr(inspect.unwrap(current) if callable(current) else current, "__code__", None)
    file = locate(patch.module)
    if code is None or file is None:
        return
    if Path(code.co_filename).resolve() != file.resolve():
        raise PatchError(
            f"{patch.label}: {patch.target} was already replaced by the code at "
            f"{code.co_filename}:{code.co_firstlineno}. Remove what replaces it."
        )
