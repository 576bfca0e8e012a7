# SPDX-License-Identifier: Apache-2.0
"""Where two passes over the same tokens part: the first layer, and in it the first module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vllm_kunlun.cli.verify.pairing import Pairs, parent
from vllm_kunlun.cli.verify.trace import Event
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LayerDifference", "Place", "Theirs", "Zone", "first_zone", "layer_differences",
           "nearest", "places", "suspects"]  # fmt: skip

Theirs = dict[tuple[str, str], tuple["Tensor", ...]]
"""Module and ``what`` of :class:`Event` -> what was there at the module's first call."""


class LayerDifference(NamedTuple):
    """``|o - t| / |t|`` of the residual stream, t transformers' (Frobenius norms)."""

    before: float
    after: float

    @property
    def added(self) -> float:
        """How much more than before the layer."""
        return self.after - self.before


class Place(NamedTuple):
    """One thing that both models computed."""

    module: str
    what: str
    other: str
    """transformers' module; where vLLM joins several, the one of this part."""
    part: int | None
    """Which part of vLLM's output; None if all of it."""
    error: float
    ours: Tensor
    theirs: Tensor
    at: int
    """Index of the event."""


class Zone(NamedTuple):
    """A stretch of vLLM's events: a layer, what comes before all layers, or after."""

    name: str
    begin: int
    end: int
    before: float
    """Difference that it is given."""


def nearest(candidates: Sequence[Tensor], theirs: Tensor) -> tuple[float, Tensor] | None:
    """The candidate most like ``theirs``, or the sum of all that are as large; and its error.

    vLLM hands the residual stream on in two parts, or as one tensor beside what was added last;
    which of them is meant shows in the numbers, and a wrong one is not near by chance.
    """
    fitting = [each.reshape(theirs.shape) for each in candidates if each.numel() == theirs.numel()]
    if len(fitting) > 1:
        fitting.append(sum(fitting[1:], fitting[0]))
    size = float(theirs.norm()) or 1.0
    found = [(float((each - theirs).norm()) / size, each) for each in fitting]
    return min(found, key=lambda each: _order(each[0]), default=None)


def layer_differences(
    events: Sequence[Event],
    theirs: Theirs,
    layers: Sequence[tuple[str, str]],
) -> list[LayerDifference]:
    """Of each layer, given its name in both models.

    Raises:
        UnsupportedError: a layer returns something of another size in the two.
    """
    found = []
    before = _error(events, theirs, layers[0], "input") or 0.0
    for each in layers:
        after = _error(events, theirs, each, "output")
        if after is None:
            raise UnsupportedError(
                f"what {each[0]} returns has another size than {each[1]}'s of the judge, so "
                "layers cannot be compared."
            )
        found.append(LayerDifference(before, after))
        before = after
    return found


def first_zone(
    events: Sequence[Event],
    layers: Sequence[tuple[str, str]],
    differences: Sequence[LayerDifference],
    tolerance: float,
) -> Zone:
    """The first stretch that adds more than ``tolerance``; what follows the layers if none does."""
    inside = {name: [at for at, event in enumerate(events) if event.module == name]
              for name, _ in layers}  # fmt: skip
    first, last = inside[layers[0][0]], inside[layers[-1][0]]
    if not differences[0].before <= tolerance:
        return Zone("what comes before the layers", 0, first[0] + 1, 0.0)
    for (name, _), each in zip(layers, differences, strict=True):
        if not each.added <= tolerance:
            return Zone(name, inside[name][0], inside[name][-1] + 1, each.before)
    return Zone(
        "what comes after the layers", last[-1] + 1, len(events), max(0.0, differences[-1].after)
    )


def places(events: Sequence[Event], theirs: Theirs, pairs: Pairs, zone: Zone) -> list[Place]:
    """Each thing in ``zone`` that both models have, in the order in which vLLM computes it."""
    found = []
    for at in range(zone.begin, zone.end):
        event = events[at]
        if event.what in ("query", "key", "value", "attended"):
            others, what = _attention(event.module, pairs, theirs), event.what
        else:
            others, what = pairs.get(event.module, ()), event.what
        if len(others) > 1 and what == "output":
            found += _parts(event, others, theirs, at)
            continue
        for other in others[:1]:
            for expected in theirs.get((other, what), ())[:1]:
                best = nearest(event.tensors, expected)
                if best is not None:
                    found.append(Place(event.module, what, other, None, *best, expected, at))
    return found


def suspects(found: Iterable[Place], limit: float) -> list[Place]:
    """The places whose error is above ``limit``, without those inside a module that is right.

    A class may join or order numbers as it likes where nobody else sees it.
    """
    found = list(found)
    right = [place.module for place in found if place.what == "output" and place.error <= limit]
    return [
        place
        for place in found
        if not place.error <= limit
        and not any(place.module.startswith(f"{module}.") for module in right)
    ]


def _parts(event: Event, others: Sequence[str], theirs: Theirs, at: int) -> list[Place]:
    expected = [theirs.get((other, "output"), (None,))[0] for other in others]
    if any(each is None for each in expected):
        return []
    sizes = [each.shape[-1] for each in expected if each is not None]
    whole = next((each for each in event.tensors if each.shape[-1] == sum(sizes)), None)
    if whole is None:
        return []
    found = []
    for part, (other, ours) in enumerate(zip(others, whole.split(sizes, -1), strict=True)):
        wanted = expected[part]
        assert wanted is not None
        best = nearest([ours], wanted)
        if best is not None:
            found.append(Place(event.module, "output", other, part, *best, wanted, at))
    return found


def _attention(module: str, pairs: Pairs, theirs: Theirs) -> tuple[str, ...]:
    """transformers' attention module is the one that holds what vLLM's stands beside."""
    while module:
        for other in pairs.get(module, ()):
            if (other, "query") in theirs:
                return (other,)
        module = parent(module)
    return ()


def _error(
    events: Iterable[Event], theirs: Theirs, layer: tuple[str, str], what: str
) -> float | None:
    name, other = layer
    ours = next((each.tensors for each in events if (each.module, each.what) == (name, what)), ())
    expected = theirs.get((other, what), ())
    best = nearest(ours, expected[0]) if expected else None
    return best[0] if best else None


def _order(error: float) -> tuple[bool, float]:
    """Not-a-number comes last."""
    return (error != error, error)
