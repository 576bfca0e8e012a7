# SPDX-License-Identifier: Apache-2.0
"""What a ledger holds: redirects (a module replaced), patches (a definition replaced) and additions
(something added where nothing was)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import KunlunError, PatchError, RedirectError
from vllm_kunlun.platforms.ledger.definition_hash import source_sha256
from vllm_kunlun.platforms.ledger.module_source import file_sha256, locate

__all__ = ["Addition", "Entry", "LedgerEntry", "Patch", "Redirect", "out_of_range"]


class LedgerEntry(ABC):
    """What every entry says, and how a ledger speaks of it.

    Several entries may have one key, each for releases of its own: they are variants, and the one
    whose releases hold the installed vLLM acts.
    """

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

    @property
    def ranges(self) -> tuple[str, ...]:
        """The ranges of vLLM that the entry was written for; no two of them meet."""
        return (self.vllm_range,)

    @property
    def found_sha256(self) -> str | None:
        """Of the source that the entry would replace; None where there is none, or none to."""
        return None

    def holds(self, installed: str | None) -> bool:
        """Whether the entry was written for that release of vLLM."""
        return version.matches(installed, SpecifierSet(self.vllm_range)) and any(
            version.matches(installed, SpecifierSet(each)) for each in self.ranges
        )

    def expected_sha256(self) -> tuple[str, ...]:
        """What the source's hash may be: that of the installed release's range, where one holds it.

        An untested release may have the source of any that the entry knows.
        """
        return ()

    def fits(self) -> bool:
        """Whether the entry is for the installed vLLM, or for a source that is the installed's."""
        return self.holds(version.installed_vllm()) or self.found_sha256 in self.expected_sha256()

    def shares_release(self, other: LedgerEntry) -> bool:
        """Whether both entries could be for one release."""
        return any(
            version.overlap(SpecifierSet(mine), SpecifierSet(theirs))
            for mine in self.ranges
            for theirs in other.ranges
        )

    def range_problem(self) -> str | None:
        """Why the installed vLLM is not the one that the entry was written for; None if it is."""
        if self.fits():
            return None
        installed = version.installed_vllm()
        return (
            f"{self.label} was written for vLLM {self._range_in_words}, and {installed or 'none'} "
            f"is installed. {self.update}"
        )

    def out_of_range(self) -> str | None:
        """Why the installed vLLM, for which entries are written, needs none such; else None."""
        installed = version.installed_vllm()
        if self.holds(installed) or not version.is_written_for(installed):
            return None
        return f"is for vLLM {self._range_in_words}, and {installed} is installed"

    @property
    def _range_in_words(self) -> str:
        return " or ".join(self.ranges)


class _OfSource(LedgerEntry):
    """What an entry says that takes the place of a source."""

    sha256: str | Mapping[str, str]

    @property
    def ranges(self) -> tuple[str, ...]:
        return (self.vllm_range,) if isinstance(self.sha256, str) else tuple(self.sha256)

    def expected_sha256(self) -> tuple[str, ...]:
        if isinstance(self.sha256, str):
            return (self.sha256,)
        installed = version.installed_vllm()
        of_range = [
            digest
            for those, digest in self.sha256.items()
            if version.matches(installed, SpecifierSet(those))
        ]
        return tuple(of_range or self.sha256.values())

    def _check_ranges(self) -> None:
        SpecifierSet(self.vllm_range)
        for one, other in combinations(map(SpecifierSet, self.ranges), 2):
            if version.overlap(one, other):
                raise self.error(
                    f"{self.label}: {one} and {other} name a hash for one release. "
                    "Correct the entry."
                )


@dataclass(frozen=True)
class Redirect(_OfSource):
    """One module of vLLM replaced by one of ours."""

    error: ClassVar[type[KunlunError]] = RedirectError
    update: ClassVar[str] = "Install the vllm-kunlun wheels that belong to this vLLM."

    target: str
    replacement: str
    why: str
    upstream: str
    vllm_range: str
    sha256: str | Mapping[str, str]
    """Of the target's source file; where releases differ, range of vLLM -> hash."""
    remove_when: str

    def __post_init__(self) -> None:
        self._check_ranges()

    @property
    def found_sha256(self) -> str | None:
        file = locate(self.target)
        return None if file is None else file_sha256(file)

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
class Patch(_OfPatchLedger, _OfSource):
    """One definition of torch or vLLM replaced by one of ours."""

    name: str
    target: str
    """``module:attribute.path`` of a function, method, class or constant."""
    replacement: str
    """``module:attribute.path`` of ours; imported when the patch is applied."""
    why: str
    upstream: str
    vllm_range: str
    sha256: str | Mapping[str, str]
    """:func:`~vllm_kunlun.platforms.ledger.definition_hash.source_sha256` of ``target``; where
    releases differ, range of vLLM -> hash."""
    remove_when: str
    torch_range: str = ""
    """Outside it the entry does not apply, which is no error; empty for every torch."""
    only_compilation: bool = False
    """Nothing but ``torch.compile`` needs it: where it does not fit, compilation is turned off."""

    def __post_init__(self) -> None:
        self._check(self.target, self.replacement)
        self._check_ranges()

    @property
    def found_sha256(self) -> str | None:
        return source_sha256(self.target)

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
    """Why what is installed needs no such entry, by its vLLM or its torch; None if it does."""
    installed = version.installed_torch()
    if not entry.torch_range or version.matches(installed, SpecifierSet(entry.torch_range)):
        return entry.out_of_range()
    return f"is for torch {entry.torch_range}, and {installed or 'none'} is installed"
