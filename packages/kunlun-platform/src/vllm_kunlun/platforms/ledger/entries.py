# SPDX-License-Identifier: Apache-2.0
"""What the patch ledger holds: entries (a definition replaced, or something added where nothing
was), and beside each applied one what undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import SpecifierSet

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import PatchError

__all__ = ["Added", "Addition", "Entry", "Patch", "Replaced", "by_name", "out_of_range"]


@dataclass(frozen=True)
class Patch:
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
        _check(self, self.target, self.replacement)

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]


@dataclass(frozen=True)
class Addition:
    """Keys put into a table where they are missing. No source is replaced: there is no hash.

    A missing name of a module is a missing key of ``module:__dict__``.
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
        _check(self, self.target, self.entries)

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]


Entry = Patch | Addition


@dataclass(frozen=True)
class Replaced:
    """An applied :class:`Patch`."""

    holder: Any
    attribute: str
    raw: Any
    """As the holder's namespace has it: a classmethod stays one when it is put back."""
    original: Any
    replacement: Any

    def undo(self) -> None:
        if vars(self.holder).get(self.attribute) is self.replacement:
            setattr(self.holder, self.attribute, self.raw)


@dataclass(frozen=True)
class Added:
    """An applied :class:`Addition`."""

    table: dict[Any, Any] | set[Any]
    entries: dict[Any, Any]
    """What was put in: only what was not there."""

    def undo(self) -> None:
        for key, value in self.entries.items():
            if isinstance(self.table, set):
                self.table.discard(key)
            elif self.table.get(key) is value:
                del self.table[key]


def by_name(entries: Sequence[Entry]) -> dict[str, Entry]:
    """The entries by name.

    Raises:
        PatchError: two share a name, or two patches a target. Additions to one table may be many.
    """
    names: dict[str, Entry] = {}
    targets: dict[str, Entry] = {}
    for entry in entries:
        other = names.get(entry.name)
        if other is None and isinstance(entry, Patch):
            other = targets.get(entry.target)
        if other is not None:
            raise PatchError(
                f"patches {other.name!r} (of {other.target}) and {entry.name!r} (of "
                f"{entry.target}) claim one name or one target. Uninstall one of the two wheels."
            )
        names[entry.name] = entry
        if isinstance(entry, Patch):
            targets[entry.target] = entry
    return names


def out_of_range(entry: Entry) -> str | None:
    """Why the installed torch needs no such entry; None if it does."""
    installed = version.installed_torch()
    if not entry.torch_range or version.matches(installed, SpecifierSet(entry.torch_range)):
        return None
    return f"is for torch {entry.torch_range}, and {installed or 'none'} is installed"


def _check(entry: Entry, *paths: str) -> None:
    SpecifierSet(entry.vllm_range)
    SpecifierSet(entry.torch_range)
    for path in paths:
        module, _, attribute = path.partition(":")
        if not module or not attribute:
            raise PatchError(
                f"patch {entry.name!r}: {path!r} must read module:attribute. Correct the entry."
            )
