# SPDX-License-Identifier: Apache-2.0
"""Where each function of the vendor stands here: callers, assumptions, cases."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from vllm_kunlun.ops.conformance.callers import callers
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.contract.assumptions import ASSUMPTIONS, Assumption
from vllm_kunlun.ops.contract.functions import VendorFunction
from vllm_kunlun.ops.vendor_ops.library import Libraries
from vllm_kunlun.platforms import emulator

__all__ = ["Entry", "assumptions_about", "emulated", "inventory"]


class Entry(NamedTuple):
    """One function and what there is for it.

    Attributes:
        function: its line of the contract.
        callers: modules of ours that call it.
        assumptions: ids of what the emulator takes for granted about it.
        cases: conformance cases; each runs once for each of its dtypes.
        emulated: the emulator has it.
    """

    function: VendorFunction
    callers: tuple[str, ...]
    assumptions: tuple[str, ...]
    cases: int
    emulated: bool


def emulated() -> set[str]:
    """Full names of the functions that the emulator has; none where it is not installed."""
    if not emulator.is_installed():
        return set()
    return {
        f"{surface}.{name}"
        for surface in Libraries._fields
        for name in importlib.import_module(emulator.name_of(surface)).__all__
    }


def assumptions_about(name: str) -> tuple[Assumption, ...]:
    """What the emulator takes for granted about one function."""
    return tuple(each for each in ASSUMPTIONS if name in each.function.split(", "))


def inventory(functions: Iterable[VendorFunction]) -> tuple[Entry, ...]:
    """An entry for each of ``functions``."""
    used, there, counts = callers(), emulated(), Counter(case.function for case in CASES)
    return tuple(
        Entry(
            each,
            used.get(each.adapter_name, ()),
            tuple(assumption.id for assumption in assumptions_about(each.name)),
            counts[each.name],
            each.name in there,
        )
        for each in functions
    )
