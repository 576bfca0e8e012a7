# SPDX-License-Identifier: Apache-2.0
"""What every layer of a step would compute again: index plans, remembered by content.

All layers of a step pass the same lengths, pages, slots and positions. A plan made from them is
kept together with a copy of them, and is used again only while the arguments still hold the same
values: comparing a few hundred integers costs microseconds, making a plan costs a hundred.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from vllm_kunlun.emulator.replay import current

__all__ = ["StepCache", "check_values"]

Plan = TypeVar("Plan")

CAPACITY = 8


@dataclass
class _Entry(Generic[Plan]):
    tensors: tuple[torch.Tensor, ...]
    source: weakref.ref[torch.Tensor] | None
    plan: Plan


class StepCache(Generic[Plan]):
    """Plans by a hashable key, each valid for exactly the tensors' values that it was made from."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[object, ...], _Entry[Plan]] = OrderedDict()

    def get(
        self,
        key: tuple[object, ...],
        tensors: tuple[torch.Tensor, ...],
        make: Callable[[], Plan],
        source: torch.Tensor | None = None,
    ) -> Plan:
        """The plan for ``key`` and these values; else ``make`` is called, and may raise.

        Args:
            tensors: small ones, compared by value.
            source: a large constant that the plan was read from, compared by identity.
        """
        known = self._entries.get(key)
        if (
            known is not None
            and (source is None or (known.source is not None and known.source() is source))
            and all(map(torch.equal, known.tensors, tensors))
        ):
            return known.plan
        plan = make()
        self._entries[key] = _Entry(
            tuple(tensor.clone() for tensor in tensors),
            None if source is None else weakref.ref(source),
            plan,
        )
        self._entries.move_to_end(key)
        if len(self._entries) > CAPACITY:
            self._entries.popitem(last=False)
        return plan


def check_values(
    held: StepCache[None],
    key: tuple[object, ...],
    tensors: tuple[torch.Tensor, ...],
    check: Callable[[], None],
) -> None:
    """Make ``check`` of these values once a step, whichever layer comes first.

    In a recording it is kept, and made again before a repetition that finds other values.

    Args:
        held: the values that were checked, where nothing is recorded.
        key: what the check depends on besides ``tensors``; it begins with the function's name.

    Raises: what ``check`` raises.
    """
    recording = current()
    if recording is None or not recording.is_inside:
        held.get(key, tensors, check)
        return

    def make() -> tuple[torch.Tensor, ...]:
        check()
        return ()

    recording.kept(key, tensors, make)
