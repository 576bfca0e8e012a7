# SPDX-License-Identifier: Apache-2.0
"""Module redirects: importing a module of vLLM gives a module of ours.

A finder at the head of ``sys.meta_path`` answers for the redirected names and for nothing else.
Each redirect names the source that it replaces by hash, so that a vLLM that changed the module is
an error at start and not a surprise later.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Literal

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.entry_points import load_group
from vllm_kunlun.platforms.errors import IncompatibleVllmError, RedirectError

__all__ = [
    "GROUP",
    "Redirect",
    "RedirectStatus",
    "collect",
    "import_original",
    "install",
    "remove",
    "report",
]

GROUP = "vllm_kunlun.module_redirects"


@dataclass(frozen=True)
class Redirect:
    """One ledger entry: what is replaced by what, why, and until when."""

    target: str
    replacement: str
    why: str
    upstream: str
    vllm_range: str
    sha256: str
    """Of the target's source file."""
    remove_when: str


@dataclass(frozen=True)
class RedirectStatus:
    """``active``: imported through the hook. ``unused``: not imported yet. ``stale``: refused."""

    redirect: Redirect
    state: Literal["active", "unused", "stale"]
    detail: str


class _Loader(Loader):
    """Hands the replacement module to the import system under the target's name."""

    def __init__(self, redirect: Redirect) -> None:
        self.redirect = redirect
        self.own_spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.redirect.replacement)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # Already executed under its own name; only the import system's marks are put back.
        module.__spec__ = self.own_spec
        module.__name__ = self.redirect.replacement


class _Finder(MetaPathFinder):
    def __init__(self, redirects: dict[str, Redirect]) -> None:
        self.redirects = redirects

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        redirect = self.redirects.get(fullname)
        return None if redirect is None else ModuleSpec(fullname, _Loader(redirect))


_finder: _Finder | None = None
_originals: dict[str, ModuleType] = {}


def collect() -> dict[str, Redirect]:
    """The redirects of every installed wheel, by target.

    Raises:
        RedirectError: a provider cannot be loaded, or two name one target.
    """
    providers, failures = load_group(GROUP)
    for name, failure in failures.items():
        raise RedirectError(
            f"the wheel that provides the redirects {name!r} cannot be loaded ({failure!r}). "
            "Reinstall it; `vllm-kunlun doctor` lists the wheels."
        ) from failure
    found: dict[str, Redirect] = {}
    for name, provider in providers.items():
        for redirect in provider():
            if (other := found.get(redirect.target)) is not None and other != redirect:
                raise RedirectError(
                    f"{redirect.target} is redirected twice: to {other.replacement} and, by "
                    f"{name!r}, to {redirect.replacement}. Uninstall one of the two wheels."
                )
            found[redirect.target] = redirect
    return found


def install(redirects: Sequence[Redirect] | None = None) -> None:
    """Start redirecting. Re-entrant: a second call with the same entries changes nothing.

    Args:
        redirects: default those of every installed wheel.

    Raises:
        RedirectError: an entry is stale, or its target was imported before the hook was there.
    """
    global _finder
    wanted = collect() if redirects is None else {each.target: each for each in redirects}
    present = {} if _finder is None else _finder.redirects
    for target, redirect in wanted.items():
        if present.get(target) != redirect and (problem := _problem(redirect)):
            raise RedirectError(problem)
    if _finder is None:
        _finder = _Finder({})
    _finder.redirects = {**present, **wanted}
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def remove() -> None:
    """Stop redirecting; the next import of a target gives vLLM's own module again."""
    global _finder
    if _finder is None:
        return
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for target, redirect in _finder.redirects.items():
        if _is_redirected(target, redirect):
            del sys.modules[target]
            parent, _, leaf = target.rpartition(".")
            if (package := sys.modules.get(parent)) is not None:
                vars(package).pop(leaf, None)
    _finder = None


def report(redirects: Sequence[Redirect] | None = None) -> list[RedirectStatus]:
    """The state of each redirect; default those of every installed wheel."""
    known = collect().values() if redirects is None else redirects
    statuses = []
    for redirect in known:
        if _is_redirected(redirect.target, redirect):
            statuses.append(RedirectStatus(redirect, "active", f"is {redirect.replacement}"))
        elif problem := _problem(redirect):
            statuses.append(RedirectStatus(redirect, "stale", problem))
        else:
            statuses.append(RedirectStatus(redirect, "unused", "not imported yet"))
    return statuses


def import_original(target: str) -> ModuleType:
    """vLLM's own module behind a redirect, loaded beside it (``sys.modules`` does not know it).

    Raises:
        RedirectError: vLLM has no such module.
    """
    if target not in _originals:
        spec = _original_spec(target)
        if spec is None or spec.loader is None:
            raise RedirectError(f"{target} does not exist in the installed vLLM.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _originals[target] = module
    return _originals[target]


def _is_redirected(target: str, redirect: Redirect) -> bool:
    module = sys.modules.get(target)
    return module is not None and module is sys.modules.get(redirect.replacement)


def _problem(redirect: Redirect) -> str | None:
    """Why the redirect cannot take effect, with what to do about it; None if it can."""
    target = redirect.target
    update = "Install the vllm-kunlun wheels that belong to this vLLM."
    try:
        installed = version.installed_vllm()
    except IncompatibleVllmError as error:
        return f"{target}: {error}"
    if not SpecifierSet(redirect.vllm_range).contains(installed, prereleases=True):
        return (
            f"the redirect of {target} was written for vLLM {redirect.vllm_range}, and {installed} "
            f"is installed. {update}"
        )
    spec = _original_spec(target)
    if spec is None or spec.origin is None:
        return f"{target} does not exist in vLLM {installed}, so it cannot be redirected. {update}"
    found = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    if found != redirect.sha256:
        return (
            f"the source of {target} is not the one that its replacement was written against "
            f"(sha256 {found[:12]}…, expected {redirect.sha256[:12]}…): {spec.origin} was edited "
            f"or comes from another release. {update}"
        )
    if target in sys.modules and not _is_redirected(target, redirect):
        return (
            f"{target} was imported before the plugin was registered, so its redirect would do "
            "nothing. Import vllm.platforms.current_platform first, or find who imports it early."
        )
    return None


def _original_spec(target: str) -> ModuleSpec | None:
    """The spec that the import system would find without us, without importing any parent."""
    search_path: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    name = ""
    for part in target.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, search_path)
        if spec is None:
            return None
        search_path = spec.submodule_search_locations
    return spec
