# SPDX-License-Identifier: Apache-2.0
"""What became of each tensor of a checkpoint, in one word, and what is missing."""

from __future__ import annotations

import collections
import difflib
import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm_kunlun.platforms.loading.survey import Fault, Survey
    from vllm_kunlun.platforms.loading.writes import Source

__all__ = ["MEANING", "as_result", "nearest"]

MEANING = {
    "matched": "fills the parameter of its name",
    "renamed": "fills a parameter of another name",
    "stacked": "fills a part of a fused parameter",
    "split": "fills several parameters",
    "tied": "is held under another name already",
    "ignored": "the model's class leaves it out",
    "unread": "was not looked at",
    "unexpected": "the model has no parameter for it",
    "shape": "has another shape than its parameter",
    "dtype": "holds numbers of another kind than its parameter",
}
"""Status of a tensor -> what it says; the last three are faults."""

_NUMBER = re.compile(r"\d+")
_ALIKE = 0.6


def as_result(found: Survey, **about: Any) -> dict[str, Any]:
    """The object of ``--json``; ``about`` what was looked at and how."""
    faults = {fault.source.name: fault for fault in found.faults}
    targets = _targets(found)
    missing = [entry for entry in found.missing if entry not in faults]
    wanted = [each for entry in missing for each in entry.split(", ")]
    rows = [
        _row(found, source, targets.get(name, []), faults.get(name), wanted)
        for name, source in found.sources.items()
    ]
    spare = [row["name"] for row in rows if row["status"] in ("unexpected", "ignored")]
    counts = collections.Counter(row["status"] for row in rows)
    return {
        "ok": not (found.missing or found.faults or found.unread),
        **about,
        "parameters": len(found.parameters),
        "bytes": sum(_size(source) for source in found.sources.values()),
        "counts": {status: counts[status] for status in MEANING if counts[status]},
        "sharded": sum(row["sharded"] for row in rows),
        "missing": [{"parameter": entry, "nearest": nearest(entry, spare)} for entry in missing],
        "tied": found.tied,
        "unread": found.unread,
        "refused": None,
        "tensors": rows,
    }


def nearest(name: str, others: Iterable[str]) -> str | None:
    """The most alike of ``others``, if one is; of another layer none is."""
    numbers = _NUMBER.findall(name)
    same = [each for each in others if each != name and _NUMBER.findall(each) == numbers]
    return next(iter(difflib.get_close_matches(name, same, 1, _ALIKE)), None)


def _targets(found: Survey) -> dict[str, list[str]]:
    """Tensor -> the parameters that it was written to."""
    targets: dict[str, list[str]] = {}
    if found.writes is not None:
        for parameter, target in found.writes.targets.items():
            for source in target.sources:
                targets.setdefault(source, []).append(parameter)
    return targets


def _row(
    found: Survey, source: Source, targets: list[str], fault: Fault | None, wanted: list[str]
) -> dict[str, Any]:
    near = None
    if fault is not None:
        status, detail = fault.kind, fault.detail
        if status == "unexpected":
            near = nearest(source.name, wanted) or nearest(source.name, found.parameters)
    else:
        status, detail = _status(found, source.name, targets), None
    used = 0 < source.used < math.prod(source.shape)
    return {
        "name": source.name,
        "file": source.file,
        "shape": list(source.shape),
        "dtype": str(source.dtype).removeprefix("torch."),
        "status": status,
        "parameters": targets or ([fault.parameter] if fault and fault.parameter else []),
        "sharded": fault is None and used,
        "detail": detail,
        "nearest": near,
    }


def _status(found: Survey, name: str, targets: list[str]) -> str:
    if not targets:
        return "tied" if name in found.tied else "unread" if found.unread else "ignored"
    if len(targets) > 1:
        return "split"
    assert found.writes is not None
    if len(found.writes.targets[targets[0]].sources) > 1:
        return "stacked"
    return "matched" if targets[0] == name else "renamed"


def _size(source: Source) -> int:
    return math.prod(source.shape) * int(source.dtype.itemsize)
