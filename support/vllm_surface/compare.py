# SPDX-License-Identifier: Apache-2.0
"""What differs between the surface that is held and another one, by file of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vllm_surface import signatures
from vllm_surface.entries import Entry, by_key

__all__ = ["CHANGES", "Difference", "arrivals", "by_file", "changes", "counts", "unlisted"]

CHANGES = {
    "gone": "not there",
    "moved": "not there, but a definition of that name is elsewhere, and the next lines compare it",
    "newly abstract": "a class of ours must define it, or cannot be made",
    "newly overridden": "a member of ours has the name of a member that the base lacked",
    "signature": "other parameters, defaults or fields",
    "body": "other statements or decorators, and a signature that serves as before",
    "types": "other annotations only",
    "optional": "new optional parameters or fields only, of what we call or read",
}
"""What may have happened to a use, the gravest first."""

_NEW = {"override": "newly overridden", "abstract": "newly abstract"}


class Difference(NamedTuple):
    file: str
    name: str
    kind: str
    change: str
    detail: str = ""

    def __str__(self) -> str:
        detail = f"\n      {self.detail}" if self.detail else ""
        return f"{self.change}: {self.name} ({self.kind}){detail}"


def changes(
    held: Iterable[Entry], found: Iterable[Entry], moved: Mapping[str, str] | None = None
) -> list[Difference]:
    """What of ``held`` is not so in ``found``, which another vLLM gave for the same sources.

    Args:
        moved: name -> where ``found`` took it from instead.
    """
    old, new = by_key(held), by_key(found)
    differences = [
        difference
        for key, entry in old.items()
        for difference in _differences(entry, new.get(key), moved or {})
    ]
    return sorted(differences)


def arrivals(held: Iterable[Entry], found: Iterable[Entry]) -> list[Difference]:
    """What a base of another vLLM has anew and our classes define too, or must define."""
    old = by_key(held)
    return sorted(
        Difference(entry.file, entry.name, entry.kind, _NEW[entry.kind])
        for key, entry in by_key(found).items()
        if key not in old and entry.kind in _NEW
    )


def unlisted(held: Iterable[Entry], found: Iterable[Entry]) -> list[Difference]:
    """Uses that the list lacks or names otherwise, and lines of it that nothing uses any more."""
    old, new = by_key(held), by_key(found)
    differences = [
        Difference(entry.file, entry.name, entry.kind, "not in the list")
        for key, entry in new.items()
        if key not in old
    ]
    differences += [
        Difference(entry.file, entry.name, entry.kind, "listed otherwise", f"now: {new[key].kind}")
        for key, entry in old.items()
        if key in new and "missing" != new[key].kind != entry.kind
    ]
    return sorted(differences)


def counts(held: Sequence[Entry], differences: Iterable[Difference]) -> str:
    """``553 uses of 440 names, 475 unchanged; 11 gone (8 names), ...``."""
    listed = list(differences)
    keys = {(each.file, each.name) for each in held}
    touched = keys & {(each.file, each.name) for each in listed}
    number = Counter(each.change for each in listed)
    distinct = Counter(change for change, _ in {(each.change, each.name) for each in listed})
    changed = ", ".join(f"{number[each]} {each} ({distinct[each]} names)" for each in CHANGES)
    names = len({each.name for each in held})
    files = len({each.file for each in listed})
    return (
        f"{len(held)} uses of {names} names, {len(held) - len(touched)} unchanged; {changed}; "
        f"{files} of our files touched"
    )


def by_file(differences: Iterable[Difference]) -> Iterator[str]:
    """Lines to print: a file of ours, then what differs in it. A gone class hides its members."""
    listed = sorted(differences, key=lambda each: (each.file, _order(each), each.name))
    gone = {(each.file, each.name) for each in listed if each.change == "gone"}
    inside = Counter(
        key for each in listed if each.change == "gone" and (key := _gone_owner(each, gone))
    )
    file = ""
    for each in listed:
        if each.change == "gone" and _gone_owner(each, gone):
            continue
        if each.file != file:
            file = each.file
            yield file
        members = inside[each.file, each.name]
        yield f"  {each}" + (f"\n      and {members} of its members" if members else "")


def _order(difference: Difference) -> int:
    known = list(CHANGES)
    return known.index(difference.change) if difference.change in known else len(known)


def _gone_owner(difference: Difference, gone: set[tuple[str, str]]) -> tuple[str, str] | None:
    owner = difference.file, difference.name.rpartition(".")[0]
    return owner if owner in gone else None


def _differences(old: Entry, new: Entry | None, moved: Mapping[str, str]) -> Iterator[Difference]:
    if new is None or "missing" == new.kind != old.kind:
        if old.kind != "abstract":
            yield Difference(old.file, old.name, old.kind, "gone", moved.get(old.name, ""))
        return
    if old.name in moved:
        yield Difference(old.file, old.name, old.kind, "moved", moved[old.name])
    if old.signature != new.signature:
        change = signatures.change(old.signature, new.signature, called=old.kind != "override")
        detail = signatures.shown(old.signature or "none", new.signature or "none")
        yield Difference(old.file, old.name, old.kind, change, detail)
        if change == "signature":
            return  # its body is another one in nearly every case
    if old.sha256 != new.sha256:
        yield Difference(old.file, old.name, old.kind, "body")
