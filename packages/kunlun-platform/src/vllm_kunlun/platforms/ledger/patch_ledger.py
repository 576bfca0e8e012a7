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

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Literal

from vllm_kunlun.platforms.errors import PatchError
from vllm_kunlun.platforms.ledger import applied, finder, import_hook, providers
from vllm_kunlun.platforms.ledger.applied import Added, Replaced
from vllm_kunlun.platforms.ledger.definition_hash import source_sha256
from vllm_kunlun.platforms.ledger.entries import Addition, Entry, Patch, out_of_range

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

GROUP = "vllm_kunlun.patches"


@dataclass(frozen=True)
class PatchStatus:
    """``active``: applied. ``waiting``: its module is not imported yet. ``stale``: refused.

    ``out of range``: not for the installed torch, or not for the installed vLLM, for which
    entries are written.
    ``left out``: refused, and only compilation, which is turned off, needs it.
    """

    patch: Entry
    state: Literal["active", "waiting", "stale", "out of range", "left out"]
    detail: str


class PatchFinder(finder.LedgerFinder[Entry]):
    """Wraps the loader of each module that a patch waits for; finds nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: dict[str, Replaced | Added] = {}
        self.left_out: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.of_module(fullname):
            return None
        for other in sys.meta_path:
            if other is self or not hasattr(other, "find_spec"):
                continue
            spec = other.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _PatchingLoader(spec.loader, self)
                return spec
        return None

    def apply(self, entries: Iterable[Entry], module: ModuleType) -> None:
        """Apply the entries to their module, which is imported."""
        for entry in entries:
            try:
                self.applied[entry.name] = applied.apply(entry, module)
            except PatchError as error:
                if not entry.only_compilation:
                    raise
                self.left_out[entry.name] = str(error)

    def undo(self, name: str) -> None:
        """Put back what entry ``name`` changed, and forget the entry."""
        self.drop(name)
        if (done := self.applied.pop(name, None)) is not None:
            done.undo()


class _PatchingLoader(Loader):
    """Runs the module's own loader, then applies the patches that wait for the module."""

    def __init__(self, loader: Loader, ledger: PatchFinder) -> None:
        self.loader = loader
        self.ledger = ledger

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module must look as if it had been loaded without us (inspect, importlib.resources).
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        entries = self.ledger.of_module(module.__name__)
        try:
            self.ledger.apply(entries, module)
        except PatchError:
            # The import fails, and with it goes what was already applied to this module.
            for entry in entries:
                self.ledger.applied.pop(entry.name, None)
            raise


def collect() -> dict[str, Entry]:
    """The entries of every installed wheel, by name: one variant of each.

    Raises:
        PatchError: a provider cannot be loaded or called, or two entries share a name or a target
            for one release of vLLM.
    """
    return providers.collect(GROUP, "patches", Patch, Addition)


def install(patches: Sequence[Entry] | None = None) -> None:
    """Apply the entries, now or when their module is imported. Re-entrant.

    Args:
        patches: default those of every installed wheel.

    Raises:
        PatchError: a target is missing or changed; nothing of this call stays applied then. What
            can only be seen on the live object is raised out of the import of its module.
    """
    known = collect() if patches is None else providers.by_key(patches)
    wanted = {name: entry for name, entry in known.items() if out_of_range(entry) is None}
    problems = {name: why for name, entry in wanted.items() if (why := _problem(entry))}
    if fatal := [why for name, why in problems.items() if not wanted[name].only_compilation]:
        raise PatchError("\n".join(fatal))
    ledger = finder.put_first(PatchFinder)
    ledger.left_out.update(problems)
    added = [
        entry
        for name, entry in wanted.items()
        if name not in problems and ledger.entries.get(name) != entry
    ]
    try:
        for entry in added:
            ledger.undo(entry.name)
            ledger.add({entry.name: entry})
            if (module := sys.modules.get(entry.module)) is not None:
                ledger.apply([entry], module)
    except PatchError:
        for entry in added:
            ledger.undo(entry.name)
        raise


def left_out() -> dict[str, str]:
    """Name -> reason of each entry that compilation needs and that could not be applied."""
    return {} if (ledger := finder.in_place(PatchFinder)) is None else dict(ledger.left_out)


def remove() -> None:
    """Put every original back and forget the patches."""
    if (ledger := finder.take_out(PatchFinder)) is not None:
        for name in list(ledger.entries):
            ledger.undo(name)


def original(name: str) -> Any:
    """What patch ``name`` replaced, as an attribute access gave it.

    Raises:
        PatchError: no such patch is applied.
    """
    known = {} if (ledger := finder.in_place(PatchFinder)) is None else ledger.applied
    done = known.get(name)
    if not isinstance(done, Replaced):
        raise PatchError(
            f"patch {name!r} is not applied in this process; applied are {sorted(known)}. "
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


def _status(entry: Entry) -> PatchStatus:
    if unneeded := out_of_range(entry):
        return PatchStatus(entry, "out of range", unneeded)
    ledger = finder.in_place(PatchFinder)
    done = None if ledger is None else ledger.applied.get(entry.name)
    if isinstance(done, Added):
        return PatchStatus(entry, "active", f"{entry.target} has {len(done.entries)} more")
    if done is not None and isinstance(entry, Patch):
        return _status_of_applied(entry, done)
    if problem := left_out().get(entry.name) or _problem(entry):
        return PatchStatus(entry, "left out" if entry.only_compilation else "stale", problem)
    if ledger is None or entry.name not in ledger.entries:
        return PatchStatus(entry, "waiting", "the ledger is not installed in this process")
    return PatchStatus(entry, "waiting", f"{entry.module} is not imported yet")


def _status_of_applied(patch: Patch, done: Replaced) -> PatchStatus:
    if vars(done.holder).get(done.attribute) is not done.replacement:
        return PatchStatus(patch, "stale", f"{patch.target} was replaced again by someone after us")
    copies = applied.copies_of(patch, done.original)
    late = f"; the original stays in {', '.join(copies)}" if copies else ""
    return PatchStatus(patch, "active", f"is {patch.replacement}{late}")


def _problem(entry: Entry) -> str | None:
    """Why the entry cannot be applied, seen in the source alone; None if it can."""
    if problem := entry.range_problem():
        return problem
    if (ours := import_hook.replacement_of(entry.module)) is not None:
        return (
            f"{entry.label}: {entry.module} is redirected to {ours} as a whole. "
            "Make the change there and drop the patch."
        )
    if isinstance(entry, Addition):
        return None
    found, expected = entry.found_sha256, entry.expected_sha256()
    if found is None:
        return f"{entry.label}: {entry.target} is not defined in its source. {entry.update}"
    if found not in expected:
        return (
            f"{entry.label}: the source of {entry.target} changed (sha256 {found}, "
            f"expected {' or '.join(expected)}). {entry.update}"
        )
    return None
