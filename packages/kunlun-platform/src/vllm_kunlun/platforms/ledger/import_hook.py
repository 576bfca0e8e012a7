# SPDX-License-Identifier: Apache-2.0
"""Module redirects: importing a module of vLLM gives a module of ours.

A finder at the head of ``sys.meta_path`` answers for the redirected names and for nothing else.
Each redirect names the source that it replaces by hash, so that a vLLM that changed the module is
an error at start and not a surprise later.

The only state is the finder in ``sys.meta_path`` and ``sys.modules`` itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Literal

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import RedirectError
from vllm_kunlun.platforms.ledger import finder, providers
from vllm_kunlun.platforms.ledger.entries import Redirect
from vllm_kunlun.platforms.ledger.module_source import locate

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


@dataclass(frozen=True)
class RedirectStatus:
    """``active``: imported through the hook. ``unused``: not imported yet. ``stale``: refused.

    ``out of range``: not for the installed vLLM, for which entries are written.
    """

    redirect: Redirect
    state: Literal["active", "unused", "stale", "out of range"]
    detail: str


class RedirectFinder(finder.LedgerFinder[Redirect]):
    """Answers for redirected names, and for the originals behind them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        redirect = self.entries.get(fullname)
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
    """The redirects of every installed wheel, by target: one variant of each.

    Raises:
        RedirectError: a provider cannot be loaded or called, or two entries name one target for
            one release of vLLM.
    """
    return providers.collect(GROUP, "redirects", Redirect)


def install(redirects: Sequence[Redirect] | None = None) -> None:
    """Start redirecting. Re-entrant: a second call with the same entries changes nothing.

    Args:
        redirects: default those of every installed wheel.

    Raises:
        RedirectError: an entry is stale, or its target was imported before the hook was there.
            Nothing is installed then.
    """
    known = collect() if redirects is None else providers.by_key(redirects)
    wanted = {target: each for target, each in known.items() if each.out_of_range() is None}
    problems = [problem for each in wanted.values() if (problem := _problem(each))]
    if problems:
        raise RedirectError("\n".join(problems))
    finder.put_first(RedirectFinder).add(wanted)


def remove() -> None:
    """Stop redirecting; the next import of a target gives vLLM's own module again."""
    if (ledger := finder.take_out(RedirectFinder)) is None:
        return
    for redirect in ledger.entries.values():
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
    ledger = finder.in_place(RedirectFinder)
    redirect = None if ledger is None else ledger.entries.get(target)
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
        raise RedirectError(f"{target} has no source in the installed packages. {Redirect.update}")
    finder.put_first(RedirectFinder)
    return importlib.import_module(target + _ORIGINAL)


def _is_active(redirect: Redirect) -> bool:
    module = sys.modules.get(redirect.target)
    return module is not None and module is sys.modules.get(redirect.replacement)


def _status(redirect: Redirect) -> RedirectStatus:
    if _is_active(redirect):
        return RedirectStatus(redirect, "active", f"is {redirect.replacement}")
    if unneeded := redirect.out_of_range():
        return RedirectStatus(redirect, "out of range", unneeded)
    if problem := _problem(redirect):
        return RedirectStatus(redirect, "stale", problem)
    if replacement_of(redirect.target) is None:
        return RedirectStatus(redirect, "unused", "the hook is not installed in this process")
    return RedirectStatus(redirect, "unused", "not imported yet")


def _problem(redirect: Redirect) -> str | None:
    """Why the redirect cannot take effect, with what to do about it; None if it can."""
    target = redirect.target
    if problem := redirect.range_problem():
        return problem
    file = locate(target)
    if file is None:
        return (
            f"{target} does not exist in vLLM {version.installed_vllm()}: it cannot be redirected. "
            f"{redirect.update}"
        )
    if file.name == "__init__.py":
        return (
            f"{target} is a package, and redirecting it would hide its modules. "
            "Redirect the module in it that differs."
        )
    found, expected = redirect.found_sha256, redirect.expected_sha256()
    if found not in expected:
        return (
            f"the source of {target} is not the one that its replacement was written against "
            f"(sha256 {found}, expected {' or '.join(expected)}): {file} was edited or comes from "
            f"another release. {redirect.update}"
        )
    if target in sys.modules and not _is_active(redirect):
        return (
            f"{target} was imported before the plugin was registered, so its redirect would do "
            "nothing. Run `from vllm.platforms import current_platform` and use it before that "
            "import, or find who imports it early."
        )
    return None
