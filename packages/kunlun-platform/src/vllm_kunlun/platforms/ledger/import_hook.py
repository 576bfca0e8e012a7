# SPDX-License-Identifier: Apache-2.0
"""Module redirects: importing a module of vLLM gives a module of ours.

A finder at the head of ``sys.meta_path`` answers for the redirected names and for nothing else.
Each redirect names the source that it replaces by hash, so that a vLLM that changed the module is
an error at start and not a surprise later.

The only state is the finder in ``sys.meta_path`` and ``sys.modules`` itself, so that reloading this
module neither loses a redirect nor doubles it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Literal, cast

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.entry_points import call_providers
from vllm_kunlun.platforms.errors import RedirectError
from vllm_kunlun.platforms.ledger.module_source import KunlunFinder, file_sha256, locate

__all__ = [
    "GROUP",
    "Redirect",
    "RedirectStatus",
    "collect",
    "import_original",
    "install",
    "remove",
    "replacement_of",
    "report",
]

GROUP = "vllm_kunlun.module_redirects"

_ORIGINAL = "__vllm_original"
"""Appended to a target's name, it names vLLM's own module behind the redirect. A name of its own
in ``sys.modules`` is what dataclasses, pydantic and pickle need to work inside that module."""

_UPDATE = "Install the vllm-kunlun wheels that belong to this vLLM."


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

    def __post_init__(self) -> None:
        SpecifierSet(self.vllm_range)


@dataclass(frozen=True)
class RedirectStatus:
    """``active``: imported through the hook. ``unused``: not imported yet. ``stale``: refused."""

    redirect: Redirect
    state: Literal["active", "unused", "stale"]
    detail: str


class RedirectFinder(KunlunFinder, MetaPathFinder):
    """Answers for redirected names, and for the originals behind them."""

    def __init__(self, redirects: dict[str, Redirect]) -> None:
        self.redirects = redirects

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        redirect = self.redirects.get(fullname)
        if redirect is not None:
            return ModuleSpec(fullname, _ReplacementLoader(redirect), origin=redirect.replacement)
        if fullname.endswith(_ORIGINAL):
            file = locate(fullname.removesuffix(_ORIGINAL))
            return None if file is None else importlib.util.spec_from_file_location(fullname, file)
        return None


class _ReplacementLoader(Loader):
    """Binds the replacement under the target's name.

    The import system takes whatever ``sys.modules`` holds after ``exec_module``, and sets it as
    attribute of the parent package. So the replacement keeps its own name, spec and loader.
    """

    def __init__(self, redirect: Redirect) -> None:
        self.redirect = redirect

    def exec_module(self, module: ModuleType) -> None:
        target, replacement = self.redirect.target, self.redirect.replacement
        # A circular import of the target must meet the replacement, not the empty module.
        del sys.modules[target]
        try:
            sys.modules[target] = importlib.import_module(replacement)
        except Exception as error:
            raise RedirectError(
                f"{target} is redirected to {replacement}, whose import failed: "
                f"{type(error).__name__}: {error}. Reinstall the wheel that holds it; "
                "`vllm-kunlun doctor` lists the redirects."
            ) from error


def collect() -> dict[str, Redirect]:
    """The redirects of every installed wheel, by target.

    Raises:
        RedirectError: a provider cannot be loaded or called, or two entries name one target.
    """
    results, failures = call_providers(GROUP)
    for name, failure in failures.items():
        raise RedirectError(
            f"the redirects {name!r} cannot be read ({type(failure).__name__}: {failure}). "
            "Reinstall the wheel that provides them; `vllm-kunlun doctor` lists the wheels."
        ) from failure
    entries: list[Redirect] = []
    for name, result in results.items():
        try:
            # Built anew: entries made before a reload of this module are of the old class.
            entries += [Redirect(**vars(entry)) for entry in cast("Sequence[object]", result)]
        except TypeError as error:
            raise RedirectError(
                f"the redirects {name!r} must be a sequence of Redirect, and are {result!r}. "
                "Reinstall the wheel that provides them."
            ) from error
    return _by_target(entries)


def install(redirects: Sequence[Redirect] | None = None) -> None:
    """Start redirecting. Re-entrant: a second call with the same entries changes nothing.

    Args:
        redirects: default those of every installed wheel.

    Raises:
        RedirectError: an entry is stale, or its target was imported before the hook was there.
            Nothing is installed then.
    """
    wanted = collect() if redirects is None else _by_target(redirects)
    problems = [problem for each in wanted.values() if (problem := _problem(each))]
    if problems:
        raise RedirectError("\n".join(problems))
    finder = _put_first()
    finder.redirects = {**finder.redirects, **wanted}


def remove() -> None:
    """Stop redirecting; the next import of a target gives vLLM's own module again."""
    finder = _in_place()
    if finder is None:
        return
    sys.meta_path.remove(finder)
    for redirect in finder.redirects.values():
        if not _is_active(redirect):
            continue
        module = sys.modules.pop(redirect.target)
        parent, _, leaf = redirect.target.rpartition(".")
        package = sys.modules.get(parent)
        if package is not None and vars(package).get(leaf) is module:
            delattr(package, leaf)


def report(redirects: Sequence[Redirect] | None = None) -> list[RedirectStatus]:
    """The state of each redirect; default those of every installed wheel.

    Raises:
        RedirectError: as :func:`collect`.
    """
    known = collect().values() if redirects is None else redirects
    return [_status(redirect) for redirect in known]


def replacement_of(target: str) -> str | None:
    """The module to which ``target`` is redirected in this process, if it is."""
    finder = _in_place()
    redirect = None if finder is None else finder.redirects.get(target)
    return None if redirect is None else redirect.replacement


def import_original(target: str) -> ModuleType:
    """vLLM's own module behind a redirect, loaded once, beside the module that replaces it.

    Its ``__name__`` is the target's with a suffix: ``sys.modules`` under the target's name stays
    the replacement's. Where the target was imported as it is, that module is returned.

    Raises:
        RedirectError: there is no such module.
    """
    own = sys.modules.get(target)
    if own is not None and own.__name__ == target:
        return own
    if locate(target) is None:
        raise RedirectError(f"{target} has no source in the installed packages. {_UPDATE}")
    _put_first()
    return importlib.import_module(target + _ORIGINAL)


def _in_place() -> RedirectFinder | None:
    """The finder now in ``sys.meta_path``, also if an earlier load of this module made it."""
    for finder in sys.meta_path:
        kind = type(finder)
        if (kind.__module__, kind.__qualname__) == (__name__, RedirectFinder.__qualname__):
            return finder  # type: ignore[return-value]
    return None


def _put_first() -> RedirectFinder:
    found = _in_place()
    if isinstance(found, RedirectFinder):
        finder = found
    else:
        finder = RedirectFinder({} if found is None else dict(found.redirects))
    if sys.meta_path[0] is not finder:
        if found is not None:
            sys.meta_path.remove(found)
        sys.meta_path.insert(0, finder)
    return finder


def _by_target(redirects: Sequence[Redirect]) -> dict[str, Redirect]:
    found: dict[str, Redirect] = {}
    for redirect in redirects:
        other = found.setdefault(redirect.target, redirect)
        if other is not redirect:
            raise RedirectError(
                f"{redirect.target} is redirected twice, to {other.replacement} and to "
                f"{redirect.replacement}. Uninstall one of the two wheels."
            )
    return found


def _is_active(redirect: Redirect) -> bool:
    module = sys.modules.get(redirect.target)
    return module is not None and module is sys.modules.get(redirect.replacement)


def _status(redirect: Redirect) -> RedirectStatus:
    if _is_active(redirect):
        return RedirectStatus(redirect, "active", f"is {redirect.replacement}")
    if problem := _problem(redirect):
        return RedirectStatus(redirect, "stale", problem)
    if replacement_of(redirect.target) is None:
        return RedirectStatus(redirect, "unused", "the hook is not installed in this process")
    return RedirectStatus(redirect, "unused", "not imported yet")


def _problem(redirect: Redirect) -> str | None:
    """Why the redirect cannot take effect, with what to do about it; None if it can."""
    target = redirect.target
    installed = version.installed_vllm()
    if not version.matches(installed, SpecifierSet(redirect.vllm_range)):
        return (
            f"the redirect of {target} was written for vLLM {redirect.vllm_range}, and "
            f"{installed or 'none'} is installed. {_UPDATE}"
        )
    file = locate(target)
    if file is None:
        return f"{target} does not exist in vLLM {installed}: it cannot be redirected. {_UPDATE}"
    if file.name == "__init__.py":
        return (
            f"{target} is a package, and redirecting it would hide its modules. "
            "Redirect the module in it that differs."
        )
    found = file_sha256(file)
    if found != redirect.sha256:
        return (
            f"the source of {target} is not the one that its replacement was written against "
            f"(sha256 {found}, expected {redirect.sha256}): {file} was edited or comes from "
            f"another release. {_UPDATE}"
        )
    if target in sys.modules and not _is_active(redirect):
        return (
            f"{target} was imported before the plugin was registered, so its redirect would do "
            "nothing. Run `from vllm.platforms import current_platform` and use it before that "
            "import, or find who imports it early."
        )
    return None
