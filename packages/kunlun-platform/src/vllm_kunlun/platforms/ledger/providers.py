# SPDX-License-Identifier: Apache-2.0
"""The entries of every installed wheel: collected by entry point, one claim of each thing for each
release of vLLM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from vllm_kunlun.platforms.entry_points import call_providers
from vllm_kunlun.platforms.ledger.entries import LedgerEntry

__all__ = ["by_key", "collect"]

E = TypeVar("E", bound=LedgerEntry)


def collect(group: str, word: str, *kinds: type[E]) -> dict[str, E]:
    """The entries that the providers of ``group`` give, by key.

    Args:
        group: of entry points; each names a function without arguments.
        word: what its entries are called in a message (``redirects``).
        kinds: the classes that an entry may be of.

    Raises:
        KunlunError: the kinds' own; a provider cannot be loaded or called, gives something else,
            or two entries claim one thing for one release of vLLM.
    """
    error = kinds[0].error
    results, failures = call_providers(group)
    for name, failure in failures.items():
        raise error(
            f"the {word} {name!r} cannot be read ({type(failure).__name__}: {failure}). "
            "Reinstall the wheel that provides them; `vllm-kunlun doctor` lists the wheels."
        ) from failure
    entries: list[E] = []
    for name, result in results.items():
        if not isinstance(result, Sequence) or not all(isinstance(e, kinds) for e in result):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise error(
                f"the {word} {name!r} must be a sequence of {expected}, and are {result!r}. "
                "Reinstall the wheel that provides them."
            )
        entries += result
    return by_key(entries)


def by_key(entries: Iterable[E]) -> dict[str, E]:
    """The entries by key; of variants the one that fits the installed vLLM, else the last.

    Raises:
        KunlunError: the entries' own; two claim one thing for one release of vLLM.
    """
    claimed: dict[tuple[str, str], list[E]] = {}
    found: dict[str, E] = {}
    for entry in entries:
        for claim in entry.claims:
            for other in claimed.setdefault(claim, []):
                if entry.shares_release(other):
                    raise entry.error(f"{entry.clash(other)}. Uninstall one of the two wheels.")
            claimed[claim].append(entry)
        variant = found.get(entry.key)
        if variant is None or not variant.fits():
            found[entry.key] = entry
    return found
