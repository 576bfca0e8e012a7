# SPDX-License-Identifier: Apache-2.0
"""What a ledger holds: redirects (a module replaced), patches (a definition replaced) and additions
(something added where nothing was)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import KunlunError, PatchError, RedirectError

__all__ = ["Addition", "Entry", "LedgerEntry", "Patch", "Redirect", "out_of_range"]


class LedgerEntry(ABC):
    """What every entry says, and how a ledger speaks of it."""

    error: ClassVar[type[KunlunError]]
    """Raised where an entry of this kind is wrong."""
    update: ClassVar[str]
    """What to do where the entry does not fit what is installed."""

    target: str
    why: str
    upstream: str
    vllm_range: str
    remove_when: str

    @property
    @abstractmethod
    def key(self) -> str:
        """Under which a ledger holds the entry."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The entry's name at the beginning of a message."""

    @property
    def module(self) -> str:
        """The module at whose import the entry acts."""
        return self.target.partition(":")[0]

    @property
    @abstractmethod
    def claims(self) -> tuple[tuple[str, str], ...]:
        """What no other entry of its ledger may claim, each with its kind."""

    @abstractmethod
    def clash(self, other: Any) -> str:
        """The message where ``other`` claims the same."""

    def range_problem(self) -> str | None:
        """Why the installed vLLM is not the one that the entry was written for; None if it is."""
        installed = version.installed_vllm()
        if version.matches(installed, SpecifierSet(self.vllm_range)):
            return None
        return (
            f"{self.label} was written for vLLM {self.vllm_range}, and {installed or 'none'} is "
            f"installed. {self.update}"
        )


@dataclass(frozen=True)
class Redirect(LedgerEntry):
    """One module of vLLM replaced by one of ours."""

    error: ClassVar[type[KunlunError]] = RedirectError
    update: ClassVar[str] = "Install the vllm-kunlun wheels that belong to this vLLM."

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

    @property
    def key(self) -> str:
        return self.target

    @property
    def label(self) -> str:
        return f"the redirect of {self.target}"

    @property
    def claims(self) -> tuple[tuple[str, str], ...]:
        return (("target", self.target),)

    def clash(self, other: Any) -> str:
        return (
            f"{self.target} is redirected twice, to {other.replacement} and to {self.replacement}"
        )


class _OfPatchLedger(LedgerEntry):
    """What patches and additions have in common."""

    error: ClassVar[type[KunlunError]] = PatchError
    update: ClassVar[str] = (
        "Install the vllm-kunlun wheels that belong to this vLLM and this torch."
    )

    name: str
    torch_range: str
    only_compilation: bool

    @property
    def key(self) -> str:
        return self.name

    @property
    def label(self) -> str:
        return f"patch {self.name!r}"

    @property
    def claims(self) -> tuple[tuple[str, str], ...]:
        return (("name", self.name),)

    def clash(self, other: Any) -> str:
        return (
            f"patches {other.key!r} (of {other.target}) and {self.key!r} (of {self.target}) claim "
            "one name or one target"
        )

    def _check(self, *paths: str) -> None:
        SpecifierSet(self.vllm_range)
        SpecifierSet(self.torch_range)
        for path in paths:
            module, _, attribute = path.partition(":")
            if not module or not attribute:
                raise PatchError(
                    f"{self.label}: {path!r} must read module:attribute. Correct the entry."
                )


@dataclass(frozen=True)
class Patch(_OfPatchLedger):
    """One definition of torch or vLLM replaced by one of ours."""

    name: str
    target: str
    """``module:attribute.path`` of a function, method, class or constant."""
    replacement: str
    """``module:attribute.path`` of ours; imported when the patch is applied."""
    why: str
    upstream: str
    vllm_range: str
    sha256: str
    """:func:`~vllm_kunlun.platforms.ledger.definition_hash.source_sha256` of ``target``."""
    remove_when: str
    torch_range: str = ""
    """Outside it the entry does not apply, which is no error; empty for every torch."""
    only_compilation: bool = False
    """Nothing but ``torch.compile`` needs it: where it does not fit, compilation is turned off."""

    def __post_init__(self) -> None:
        self._check(self.target, self.replacement)

    @property
    def claims(self) -> tuple[tuple[str, str], ...]:
        return (*super().claims, ("target", self.target))


@dataclass(frozen=True)
class Addition(_OfPatchLedger):
    """Keys put into a table where they are missing. No source is replaced: there is no hash.

    Any number of additions may share a table. A missing name of a module is a missing key of
    ``module:__dict__``.
    """

    name: str
    target: str
    """``module:attribute.path`` of a dict or a set."""
    entries: str
    """``module:attribute.path`` of ours: a function of that table, to a dict of what to add (of a
    set, the keys). It is called when the module is imported; what is already there stays."""
    why: str
    upstream: str
    vllm_range: str
    remove_when: str
    torch_range: str = ""
    """As in :class:`Patch`."""
    only_compilation: bool = False
    """As in :class:`Patch`."""

    def __post_init__(self) -> None:
        self._check(self.target, self.entries)


Entry = Patch | Addition


def out_of_range(entry: Entry) -> str | None:
    """Why the installed torch needs no such entry; None if it does."""
    installed = version.installed_torch()
    if not entry.torch_range or version.matches(installed, SpecifierSet(entry.torch_range)):
        return None
    return f"is for torch {entry.torch_range}, and {installed or 'none'} is installed"
