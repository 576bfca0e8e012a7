# SPDX-License-Identifier: Apache-2.0
"""Run-time patches of torch and vLLM, as ledger entries: what, why, upstream link, until when.

A patch replaces one function or class attribute and names the source that it replaces by hash. It
is applied at once if its module is imported, else right after that module's import. No file is
ever edited.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Literal

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.entry_points import load_group
from vllm_kunlun.platforms.errors import PatchError

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

GROUP = "vllm_kunlun.patches"


@dataclass(frozen=True)
class Patch:
    """One ledger entry."""

    name: str
    target: str
    """``module:attribute.path`` of a function, method or class."""
    replacement: str
    """``module:attribute.path`` of ours; imported when the patch is applied."""
    why: str
    upstream: str
    vllm_range: str
    sha256: str
    """:func:`source_sha256` of what is replaced."""
    remove_when: str

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]


@dataclass(frozen=True)
class PatchStatus:
    """``active``: applied. ``waiting``: its module is not imported yet. ``stale``: refused."""

    patch: Patch
    state: Literal["active", "waiting", "stale"]
    detail: str


_installed: dict[str, Patch] = {}
_originals: dict[str, Any] = {}


def source_sha256(thing: Any) -> str:
    """Hash of an object's source, indentation aside."""
    return hashlib.sha256(textwrap.dedent(inspect.getsource(thing)).encode()).hexdigest()


def collect() -> dict[str, Patch]:
    """The patches of every installed wheel, by name.

    Raises:
        PatchError: a provider cannot be loaded, or two entries share a name or a target.
    """
    providers, failures = load_group(GROUP)
    for name, failure in failures.items():
        raise PatchError(
            f"the wheel that provides the patches {name!r} cannot be loaded ({failure!r}). "
            "Reinstall it; `vllm-kunlun doctor` lists the wheels."
        ) from failure
    return _checked([patch for provider in providers.values() for patch in provider()])


def _checked(patches: Sequence[Patch]) -> dict[str, Patch]:
    by_name: dict[str, Patch] = {}
    targets: dict[str, Patch] = {}
    for patch in patches:
        other = by_name.get(patch.name) or targets.get(patch.target)
        if other is not None and other != patch:
            raise PatchError(
                f"patches {other.name!r} and {patch.name!r} claim the same name or target "
                f"({patch.target}). Uninstall one of the two wheels."
            )
        by_name[patch.name] = targets[patch.target] = patch
    return by_name


def install(patches: Sequence[Patch] | None = None) -> None:
    """Apply the patches, now or when their module is imported. Re-entrant.

    Raises:
        PatchError: a target is missing or changed (later ones raise out of the import).
    """
    wanted = collect() if patches is None else _checked(patches)
    for name, patch in wanted.items():
        if _installed.get(name) == patch:
            continue
        _installed[name] = patch
        if patch.module in sys.modules:
            _apply(patch)
    if _installed and _waiter not in sys.meta_path:
        sys.meta_path.insert(0, _waiter)


def remove() -> None:
    """Put every original back and forget the patches."""
    if _waiter in sys.meta_path:
        sys.meta_path.remove(_waiter)
    for name in list(_originals):
        holder, attribute = _holder(_installed[name].target)
        setattr(holder, attribute, _originals.pop(name))
    _installed.clear()


def original(name: str) -> Any:
    """What patch ``name`` replaced.

    Raises:
        PatchError: no such patch is applied.
    """
    if name not in _originals:
        raise PatchError(f"patch {name!r} is not applied; applied are {sorted(_originals)}.")
    return _originals[name]


def report(patches: Sequence[Patch] | None = None) -> list[PatchStatus]:
    """The state of each patch; default those of every installed wheel."""
    known = collect().values() if patches is None else patches
    statuses = []
    for patch in known:
        if patch.name in _originals:
            statuses.append(PatchStatus(patch, "active", f"is {patch.replacement}"))
        elif patch.module not in sys.modules:
            statuses.append(PatchStatus(patch, "waiting", f"{patch.module} is not imported yet"))
        else:
            problem = _problem(patch)
            state: Literal["waiting", "stale"] = "stale" if problem else "waiting"
            statuses.append(PatchStatus(patch, state, problem or "not installed"))
    return statuses


def _apply(patch: Patch) -> None:
    if patch.name in _originals:
        return
    if problem := _problem(patch):
        raise PatchError(problem)
    module, _, path = patch.replacement.partition(":")
    replacement: Any = importlib.import_module(module)
    for part in path.split("."):
        replacement = getattr(replacement, part)
    holder, attribute = _holder(patch.target)
    _originals[patch.name] = getattr(holder, attribute)
    setattr(holder, attribute, replacement)


def _problem(patch: Patch) -> str | None:
    update = "Install the vllm-kunlun wheels that belong to this vLLM."
    installed = version.installed_vllm()
    if not SpecifierSet(patch.vllm_range).contains(installed, prereleases=True):
        return (
            f"patch {patch.name!r} was written for vLLM {patch.vllm_range}, and {installed} is "
            f"installed. {update}"
        )
    try:
        holder, attribute = _holder(patch.target)
        target = getattr(holder, attribute)
    except AttributeError:
        return f"patch {patch.name!r}: {patch.target} does not exist any more. {update}"
    found = source_sha256(target)
    if found != patch.sha256:
        return (
            f"patch {patch.name!r}: the source of {patch.target} changed (sha256 {found[:12]}…, "
            f"expected {patch.sha256[:12]}…). {update}"
        )
    return None


def _holder(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    holder: Any = sys.modules[module]
    *parents, attribute = path.split(".")
    for part in parents:
        holder = getattr(holder, part)
    return holder, attribute


class _PatchingLoader(Loader):
    """Runs the module's own loader, then applies the patches that wait for it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        for patch in list(_installed.values()):
            if patch.module == module.__name__:
                _apply(patch)


class _Waiter(MetaPathFinder):
    """Wraps the loader of a module that a patch waits for; finds nothing else."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not any(patch.module == fullname for patch in _installed.values()):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _PatchingLoader(spec.loader)
                return spec
        return None


_waiter = _Waiter()
