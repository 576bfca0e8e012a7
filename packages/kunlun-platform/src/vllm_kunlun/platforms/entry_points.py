# SPDX-License-Identifier: Apache-2.0
"""Entry-point groups of this project, loaded so that no failure is lost."""

from __future__ import annotations

import logging
from collections import defaultdict
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["LoadedGroup", "call_providers", "load_group"]

logger = logging.getLogger("vllm.kunlun")

_reported: set[tuple[str, str, str]] = set()
"""(group, name, failure) already logged in this process: plugins are loaded several times."""


class LoadedGroup(NamedTuple):
    """What a group gave, by entry-point name. A name is in one of the two, never in both."""

    loaded: dict[str, object]
    failures: dict[str, Exception]


def load_group(group: str) -> LoadedGroup:
    """Load every entry point of ``group``.

    An entry point that fails to load does not stop the others; its exception is logged once per
    process and returned. Two distributions that use one name are a failure of that name.
    """
    by_name: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for entry in entry_points(group=group):
        by_name[entry.name].append(entry)
    found = LoadedGroup({}, {})
    for name, entries in sorted(by_name.items()):
        try:
            found.loaded[name] = _only(group, entries).load()
        except Exception as error:  # noqa: BLE001 - returned, and logged by _report
            found.failures[name] = error
            _report(group, name, error)
    return found


def call_providers(group: str) -> LoadedGroup:
    """Load every entry point of ``group``, a callable without arguments, and call it.

    Returns:
        The results; a failure to load and a failure of the call are both in ``failures``.
    """
    providers = load_group(group)
    results = LoadedGroup({}, dict(providers.failures))
    for name, provider in providers.loaded.items():
        try:
            if not callable(provider):
                raise KunlunError(
                    f"entry point {name!r} of group {group!r} must name a callable without "
                    f"arguments, and names {provider!r}: correct it in the wheel's pyproject.toml."
                )
            results.loaded[name] = provider()
        except Exception as error:  # noqa: BLE001 - returned, and logged by _report
            results.failures[name] = error
            _report(group, name, error)
    return results


def _only(group: str, entries: list[EntryPoint]) -> EntryPoint:
    if len(entries) == 1:
        return entries[0]
    owners = ", ".join(sorted(f"{_distribution(entry)} ({entry.value})" for entry in entries))
    raise KunlunError(
        f"entry point {entries[0].name!r} of group {group!r} is provided {len(entries)} times, by "
        f"{owners}: uninstall all but one."
    )


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unnamed distribution"


def _report(group: str, name: str, error: Exception) -> None:
    key = (group, name, f"{type(error).__name__}: {error}")
    if key not in _reported:
        _reported.add(key)
        logger.error("Entry point %r of group %r failed.", name, group, exc_info=error)
