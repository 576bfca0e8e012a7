# SPDX-License-Identifier: Apache-2.0
"""Run-time patches of torch and vLLM, as ledger entries: what, why, upstream link, until when.

A patch replaces one attribute of a module or class and names the source that it replaces by hash;
an addition puts what is missing into a table. Either is applied at once if its module is imported,
else right after that module's import. No file is ever edited.

An entry that does not fit stops the start, unless only compilation needs it: then it is left out,
and :func:`left_out` tells the configuration, which turns compilation off.

A module that copied the original by ``from module import name`` before the patch was applied keeps
it; :func:`report` names such modules.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.entry_points import call_providers
from vllm_kunlun.platforms.errors import PatchError
from vllm_kunlun.platforms.ledger import import_hook
from vllm_kunlun.platforms.ledger.definition_hash import source_sha256
from vllm_kunlun.platforms.ledger.entries import (
    Added,
    Addition,
    Entry,
    Patch,
    Replaced,
    by_name,
    out_of_range,
)
from vllm_kunlun.platforms.ledger.module_source import KunlunFinder, locate

__all__ = [
    "Addition",
    "Entry",
    "GROUP",
    "Patch",
    "PatchStatus",
    "collect",
    "install",
    "left_out",
    "original",
    "remove",
    "report",
    "source_sha256",
]

logger = logging.getLogger("vllm.kunlun")

GROUP = "vllm_kunlun.patches"

_UPDATE = "Install the vllm-kunlun wheels that belong to this vLLM and this torch."


@dataclass(frozen=True)
class PatchStatus:
    """``active``: applied. ``waiting``: its module is not imported yet. ``stale``: refused.

    ``out of range``: not for the installed torch. ``left out``: refused, and only compilation,
    which is turned off, needs it.
    """

    patch: Entry
    state: Literal["active", "waiting", "stale", "out of range", "left out"]
    detail: str


class PatchFinder(KunlunFinder, MetaPathFinder):
    """Wraps the loader of each module that a patch waits for; finds nothing else.

    It holds the ledger of this process, so that reloading this module loses nothing.
    """

    def __init__(
        self,
        patches: dict[str, Entry],
        applied: dict[str, Replaced | Added],
        left_out: dict[str, str],
    ) -> None:
        self.patches = patches
        self.applied = applied
        self.left_out = left_out

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not any(patch.module == fullname for patch in self.patches.values()):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _PatchingLoader(spec.loader, self)
                return spec
        return None


class _PatchingLoader(Loader):
    """Runs the module's own loader, then applies the patches that wait for the module."""

    def __init__(self, loader: Loader, ledger: PatchFinder) -> None:
        self.loader = loader
        self.ledger = ledger

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module shall look as if it had been loaded without us (inspect, importlib.resources).
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        patches = [p for p in self.ledger.patches.values() if p.module == module.__name__]
        try:
            _apply_all(self.ledger, patches, module)
        except PatchError:
            # The import fails, and with it goes what was already applied to this module.
            for patch in patches:
                self.ledger.applied.pop(patch.name, None)
            raise


def collect() -> dict[str, Entry]:
    """The entries of every installed wheel, by name.

    Raises:
        PatchError: a provider cannot be loaded or called, or two entries share a name or a target.
    """
    results, failures = call_providers(GROUP)
    for name, failure in failures.items():
        raise PatchError(
            f"the patches {name!r} cannot be read ({type(failure).__name__}: {failure}). "
            "Reinstall the wheel that provides them; `vllm-kunlun doctor` lists the wheels."
        ) from failure
    entries: list[Entry] = []
    for name, result in results.items():
        if not isinstance(result, Sequence) or not all(isinstance(e, Entry) for e in result):
            raise PatchError(
                f"the patches {name!r} must be a sequence of Patch or Addition, and are "
                f"{result!r}. Reinstall the wheel that provides them."
            )
        entries += result
    return by_name(entries)


def install(patches: Sequence[Entry] | None = None) -> None:
    """Apply the entries, now or when their module is imported. Re-entrant.

    Args:
        patches: default those of every installed wheel.

    Raises:
        PatchError: a target is missing or changed; nothing of this call stays applied then. What
            can only be seen on the live object is raised out of the import of its module.
    """
    known = collect() if patches is None else by_name(patches)
    wanted = {name: entry for name, entry in known.items() if out_of_range(entry) is None}
    problems = {name: why for name, entry in wanted.items() if (why := _problem(entry))}
    if fatal := [why for name, why in problems.items() if not wanted[name].only_compilation]:
        raise PatchError("\n".join(fatal))
    ledger = _put_first()
    ledger.left_out.update(problems)
    added = [
        entry
        for name, entry in wanted.items()
        if name not in problems and ledger.patches.get(name) != entry
    ]
    try:
        for entry in added:
            _undo(ledger, entry.name)
            ledger.patches[entry.name] = entry
            if (module := sys.modules.get(entry.module)) is not None:
                _apply_all(ledger, [entry], module)
    except PatchError:
        for entry in added:
            _undo(ledger, entry.name)
        raise


def left_out() -> dict[str, str]:
    """Name -> reason of each entry that compilation needs and that could not be applied."""
    return {} if (ledger := _in_place()) is None else dict(ledger.left_out)


def remove() -> None:
    """Put every original back and forget the patches."""
    ledger = _in_place()
    if ledger is None:
        return
    sys.meta_path.remove(ledger)
    for name in list(ledger.patches):
        _undo(ledger, name)


def original(name: str) -> Any:
    """What patch ``name`` replaced, as an attribute access gave it.

    Raises:
        PatchError: no such patch is applied.
    """
    applied = {} if (ledger := _in_place()) is None else ledger.applied
    done = applied.get(name)
    if not isinstance(done, Replaced):
        raise PatchError(
            f"patch {name!r} is not applied in this process; applied are {sorted(applied)}. "
            "Import the patched module first."
        )
    return done.original


def report(patches: Iterable[Entry] | None = None) -> list[PatchStatus]:
    """The state of each patch; default those of every installed wheel.

    Raises:
        PatchError: as :func:`collect`.
    """
    known = collect().values() if patches is None else patches
    return [_status(patch) for patch in known]


def _in_place() -> PatchFinder | None:
    """The finder now in ``sys.meta_path``, also if an earlier load of this module made it."""
    for finder in sys.meta_path:
        kind = type(finder)
        if (kind.__module__, kind.__qualname__) == (__name__, PatchFinder.__qualname__):
            return finder  # type: ignore[return-value]
    return None


def _put_first() -> PatchFinder:
    found = _in_place()
    if isinstance(found, PatchFinder):
        return found
    if found is None:
        finder = PatchFinder({}, {}, {})
    else:
        finder = PatchFinder(found.patches, found.applied, found.left_out)
        sys.meta_path.remove(found)
    sys.meta_path.insert(0, finder)
    return finder


def _apply_all(ledger: PatchFinder, entries: Sequence[Entry], module: ModuleType) -> None:
    for entry in entries:
        try:
            if isinstance(entry, Patch):
                _apply(ledger, entry, module)
            else:
                _add(ledger, entry, module)
        except PatchError as error:
            if not entry.only_compilation:
                raise
            ledger.left_out[entry.name] = str(error)


def _add(ledger: PatchFinder, addition: Addition, module: ModuleType) -> None:
    table: Any = module
    for part in addition.target.partition(":")[2].split("."):
        table = getattr(table, part, None)
    if not isinstance(table, (dict, set)):
        raise PatchError(
            f"patch {addition.name!r}: {addition.target} must be a dict or a set, and is {table!r} "
            f"in {module}. {_UPDATE}"
        )
    entries = _load(addition, addition.entries)(table)
    missing = {key: value for key, value in entries.items() if key not in table}
    table.update(missing)  # of a set: the keys
    ledger.applied[addition.name] = Added(table, missing)


def _apply(ledger: PatchFinder, patch: Patch, module: ModuleType) -> None:
    """Replace the attribute in ``module``; a fresh copy of the module is patched afresh."""
    *parents, attribute = patch.target.partition(":")[2].split(".")
    holder: Any = module
    for part in parents:
        holder = getattr(holder, part, None)
    if holder is None or attribute not in vars(holder):
        raise PatchError(
            f"patch {patch.name!r}: {patch.target} is not there after the import of {module}, "
            "though its source defines it. Import vllm.platforms before that module."
        )
    raw, current = vars(holder)[attribute], getattr(holder, attribute)
    _check_untouched(patch, current)
    replacement = _load(patch, patch.replacement)
    if isinstance(raw, (staticmethod, classmethod)) and inspect.isfunction(replacement):
        replacement = type(raw)(replacement)
    ledger.applied[patch.name] = Replaced(holder, attribute, raw, current, replacement)
    setattr(holder, attribute, replacement)
    if copies := _copies(patch, current):
        logger.warning(
            "Patch %r comes after %s copied the original.", patch.name, ", ".join(copies)
        )


def _undo(ledger: PatchFinder, name: str) -> None:
    ledger.patches.pop(name, None)
    if (done := ledger.applied.pop(name, None)) is not None:
        done.undo()


def _load(entry: Entry, ours: str) -> Any:
    module, _, path = ours.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise PatchError(
            f"patch {entry.name!r}: its replacement {ours} cannot be imported "
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
            f"patch {patch.name!r}: {patch.target} was already replaced by the code at "
            f"{code.co_filename}:{code.co_firstlineno}. Remove what replaces it."
        )


def _copies(patch: Patch, replaced: Any) -> list[str]:
    """Modules that hold the original under its own name (ours, which may call it, apart)."""
    name = patch.target.rpartition(".")[2].rpartition(":")[2]
    ours = patch.replacement.partition(":")[0]
    return sorted(
        module.__name__
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType)
        and object.__getattribute__(module, "__dict__").get(name) is replaced
        and module.__name__ != ours
    )


def _status(entry: Entry) -> PatchStatus:
    if unneeded := out_of_range(entry):
        return PatchStatus(entry, "out of range", unneeded)
    ledger = _in_place()
    done = None if ledger is None else ledger.applied.get(entry.name)
    if isinstance(done, Added):
        return PatchStatus(entry, "active", f"{entry.target} has {len(done.entries)} more")
    if done is not None and isinstance(entry, Patch):
        if vars(done.holder).get(done.attribute) is not done.replacement:
            return PatchStatus(
                entry, "stale", f"{entry.target} was replaced again by someone after us"
            )
        copies = _copies(entry, done.original)
        late = f"; the original stays in {', '.join(copies)}" if copies else ""
        return PatchStatus(entry, "active", f"is {entry.replacement}{late}")
    if problem := left_out().get(entry.name) or _problem(entry):
        return PatchStatus(entry, "left out" if entry.only_compilation else "stale", problem)
    if ledger is None or entry.name not in ledger.patches:
        return PatchStatus(entry, "waiting", "the ledger is not installed in this process")
    return PatchStatus(entry, "waiting", f"{entry.module} is not imported yet")


def _problem(entry: Entry) -> str | None:
    """Why the entry cannot be applied, seen in the source alone; None if it can."""
    installed = version.installed_vllm()
    if not version.matches(installed, SpecifierSet(entry.vllm_range)):
        return (
            f"patch {entry.name!r} was written for vLLM {entry.vllm_range}, and "
            f"{installed or 'none'} is installed. {_UPDATE}"
        )
    if (ours := import_hook.replacement_of(entry.module)) is not None:
        return (
            f"patch {entry.name!r}: {entry.module} is redirected to {ours} as a whole. "
            "Make the change there and drop the patch."
        )
    if isinstance(entry, Addition):
        return None
    found = source_sha256(entry.target)
    if found is None:
        return f"patch {entry.name!r}: {entry.target} is not defined in its source. {_UPDATE}"
    if found != entry.sha256:
        return (
            f"patch {entry.name!r}: the source of {entry.target} changed (sha256 {found}, "
            f"expected {entry.sha256}). {_UPDATE}"
        )
    return None
