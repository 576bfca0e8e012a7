# SPDX-License-Identifier: Apache-2.0
"""Run-time patches of torch and vLLM, as ledger entries: what, why, upstream link, until when.

A patch replaces one attribute of a module or class and names the source that it replaces by hash.
It is applied at once if its module is imported, else right after that module's import. No file is
ever edited.

A module that copied the original by ``from module import name`` before the patch was applied keeps
it; :func:`report` names such modules.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import import_hook, version
from vllm_kunlun.platforms.definition_hash import source_sha256
from vllm_kunlun.platforms.entry_points import call_providers
from vllm_kunlun.platforms.errors import PatchError
from vllm_kunlun.platforms.module_source import KunlunFinder, locate

__all__ = [
    "GROUP",
    "Patch",
    "PatchStatus",
    "collect",
    "install",
    "original",
    "remove",
    "report",
    "source_sha256",
]

logger = logging.getLogger("vllm.kunlun")

GROUP = "vllm_kunlun.patches"

_UPDATE = "Install the vllm-kunlun wheels that belong to this vLLM."


@dataclass(frozen=True)
class Patch:
    """One ledger entry."""

    name: str
    target: str
    """``module:attribute.path`` of a function, method, class or constant."""
    replacement: str
    """``module:attribute.path`` of ours; imported when the patch is applied."""
    why: str
    upstream: str
    vllm_range: str
    sha256: str
    """:func:`source_sha256` of ``target``."""
    remove_when: str

    def __post_init__(self) -> None:
        SpecifierSet(self.vllm_range)
        for path in (self.target, self.replacement):
            module, _, attribute = path.partition(":")
            if not module or not attribute:
                raise PatchError(
                    f"patch {self.name!r}: {path!r} must read module:attribute. Correct the entry."
                )

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]


@dataclass(frozen=True)
class PatchStatus:
    """``active``: applied. ``waiting``: its module is not imported yet. ``stale``: refused."""

    patch: Patch
    state: Literal["active", "waiting", "stale"]
    detail: str


@dataclass(frozen=True)
class _Applied:
    holder: Any
    attribute: str
    raw: Any
    """As the holder's namespace has it: a classmethod stays one when it is put back."""
    original: Any
    replacement: Any


class PatchFinder(KunlunFinder, MetaPathFinder):
    """Wraps the loader of each module that a patch waits for; finds nothing else.

    It holds the ledger of this process, so that reloading this module loses nothing.
    """

    def __init__(self, patches: dict[str, Patch], applied: dict[str, _Applied]) -> None:
        self.patches = patches
        self.applied = applied

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
            for patch in patches:
                _apply(self.ledger, patch, module)
        except PatchError:
            # The import fails, and with it goes what was already applied to this module.
            for patch in patches:
                self.ledger.applied.pop(patch.name, None)
            raise


def collect() -> dict[str, Patch]:
    """The patches of every installed wheel, by name.

    Raises:
        PatchError: a provider cannot be loaded or called, or two entries share a name or a target.
    """
    results, failures = call_providers(GROUP)
    for name, failure in failures.items():
        raise PatchError(
            f"the patches {name!r} cannot be read ({type(failure).__name__}: {failure}). "
            "Reinstall the wheel that provides them; `vllm-kunlun doctor` lists the wheels."
        ) from failure
    entries: list[Patch] = []
    for name, result in results.items():
        try:
            # Built anew: entries made before a reload of this module are of the old class.
            entries += [Patch(**vars(entry)) for entry in cast("Sequence[object]", result)]
        except TypeError as error:
            raise PatchError(
                f"the patches {name!r} must be a sequence of Patch, and are {result!r}. "
                "Reinstall the wheel that provides them."
            ) from error
    return _by_name(entries)


def install(patches: Sequence[Patch] | None = None) -> None:
    """Apply the patches, now or when their module is imported. Re-entrant.

    Args:
        patches: default those of every installed wheel.

    Raises:
        PatchError: a target is missing or changed; nothing of this call stays applied then. What
            can only be seen on the live object is raised out of the import of its module.
    """
    wanted = collect() if patches is None else _by_name(patches)
    problems = [problem for patch in wanted.values() if (problem := _problem(patch))]
    if problems:
        raise PatchError("\n".join(problems))
    ledger = _put_first()
    added = [patch for name, patch in wanted.items() if ledger.patches.get(name) != patch]
    try:
        for patch in added:
            _undo(ledger, patch.name)
            ledger.patches[patch.name] = patch
            if (module := sys.modules.get(patch.module)) is not None:
                _apply(ledger, patch, module)
    except PatchError:
        for patch in added:
            _undo(ledger, patch.name)
        raise


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
    if name not in applied:
        raise PatchError(
            f"patch {name!r} is not applied in this process; applied are {sorted(applied)}. "
            "Import the patched module first."
        )
    return applied[name].original


def report(patches: Sequence[Patch] | None = None) -> list[PatchStatus]:
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
        finder = PatchFinder({}, {})
    else:
        patches = {name: Patch(**vars(patch)) for name, patch in found.patches.items()}
        finder = PatchFinder(patches, dict(found.applied))
        sys.meta_path.remove(found)
    sys.meta_path.insert(0, finder)
    return finder


def _by_name(patches: Sequence[Patch]) -> dict[str, Patch]:
    by_name: dict[str, Patch] = {}
    by_target: dict[str, Patch] = {}
    for patch in patches:
        other = by_name.get(patch.name) or by_target.get(patch.target)
        if other is not None:
            raise PatchError(
                f"patches {other.name!r} (of {other.target}) and {patch.name!r} (of "
                f"{patch.target}) claim one name or one target. Uninstall one of the two wheels."
            )
        by_name[patch.name] = by_target[patch.target] = patch
    return by_name


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
    replacement = _load_replacement(patch)
    if isinstance(raw, (staticmethod, classmethod)) and inspect.isfunction(replacement):
        replacement = type(raw)(replacement)
    ledger.applied[patch.name] = _Applied(holder, attribute, raw, current, replacement)
    setattr(holder, attribute, replacement)
    if copies := _copies(patch, current):
        logger.warning(
            "Patch %r comes after %s copied the original.", patch.name, ", ".join(copies)
        )


def _undo(ledger: PatchFinder, name: str) -> None:
    ledger.patches.pop(name, None)
    done = ledger.applied.pop(name, None)
    if done is not None and vars(done.holder).get(done.attribute) is done.replacement:
        setattr(done.holder, done.attribute, done.raw)


def _load_replacement(patch: Patch) -> Any:
    module, _, path = patch.replacement.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise PatchError(
            f"patch {patch.name!r}: its replacement {patch.replacement} cannot be imported "
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


def _status(patch: Patch) -> PatchStatus:
    ledger = _in_place()
    done = None if ledger is None else ledger.applied.get(patch.name)
    if done is not None:
        if vars(done.holder).get(done.attribute) is not done.replacement:
            return PatchStatus(
                patch, "stale", f"{patch.target} was replaced again by someone after us"
            )
        copies = _copies(patch, done.original)
        late = f"; the original stays in {', '.join(copies)}" if copies else ""
        return PatchStatus(patch, "active", f"is {patch.replacement}{late}")
    if problem := _problem(patch):
        return PatchStatus(patch, "stale", problem)
    if ledger is None or patch.name not in ledger.patches:
        return PatchStatus(patch, "waiting", "the ledger is not installed in this process")
    return PatchStatus(patch, "waiting", f"{patch.module} is not imported yet")


def _problem(patch: Patch) -> str | None:
    """Why the patch cannot be applied, seen in the source alone; None if it can."""
    installed = version.installed_vllm()
    if not version.matches(installed, SpecifierSet(patch.vllm_range)):
        return (
            f"patch {patch.name!r} was written for vLLM {patch.vllm_range}, and "
            f"{installed or 'none'} is installed. {_UPDATE}"
        )
    if (ours := import_hook.replacement_of(patch.module)) is not None:
        return (
            f"patch {patch.name!r}: {patch.module} is redirected to {ours} as a whole. "
            "Make the change there and drop the patch."
        )
    found = source_sha256(patch.target)
    if found is None:
        return f"patch {patch.name!r}: {patch.target} is not defined in its source. {_UPDATE}"
    if found != patch.sha256:
        return (
            f"patch {patch.name!r}: the source of {patch.target} changed (sha256 {found}, "
            f"expected {patch.sha256}). {_UPDATE}"
        )
    return None
