# SPDX-License-Identifier: Apache-2.0
"""The weights that a module was loaded with, beside transformers': as they act, in any format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["ExpertDifference", "WeightDifference", "acting", "bias_difference",
           "compare_experts", "compare_named", "lone_bias"]  # fmt: skip

_ROWS = 1024


class ExpertDifference(NamedTuple):
    """How far an expert's weights are from its own; whose they are, if another's."""

    number: int
    error: float
    whose: int | None
    halves_swapped: bool


class WeightDifference(NamedTuple):
    """``|o - t| / |t|`` (Frobenius norms), and the two, ``[inputs, outputs]``."""

    name: str
    error: float
    ours: Tensor
    theirs: Tensor


def acting(
    layer: Callable[[Tensor], Any], inputs: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Matrix ``[inputs, outputs]`` and bias ``[outputs]`` by which a linear layer acts, in float32.

    It is given the unit vectors, so that packed weights, and scales, count as they are applied.
    """
    import torch

    def call(x: Tensor) -> Tensor:
        result = layer(x)
        result = result[0] if isinstance(result, tuple) else result
        return result.detach().to("cpu", torch.float32, copy=True)

    with torch.inference_mode():
        bias = call(torch.zeros(1, inputs, dtype=dtype, device=device))[0]
        rows = []
        for begin in range(0, inputs, _ROWS):
            count = min(_ROWS, inputs - begin)
            units = torch.zeros(count, inputs, dtype=dtype, device=device)
            units[torch.arange(count), begin + torch.arange(count)] = 1
            rows.append(call(units) - bias)
    return torch.cat(rows), bias


def bias_difference(ours: Tensor, theirs: Tensor) -> str | None:
    """In words, how the biases differ; None if they are equal."""
    error = _error(ours, theirs)
    if error <= 1e-2:
        return None
    return lone_bias(ours, theirs) or f"has another bias ({error:.2g} away)"


def lone_bias(ours: Tensor, theirs: Tensor) -> str | None:
    """In words, that one of two biases that differ is none; None if both are there."""
    if not float(ours.norm()):
        return "has no bias, where the checkpoint has one"
    if not float(theirs.norm()):
        return "adds a bias, where the checkpoint has none"
    return None


def compare_named(ours: nn.Module, theirs: nn.Module) -> list[WeightDifference]:
    """Parameters of the same name; of an embedding the rows that both have."""
    found = []
    expected = dict(theirs.named_parameters(recurse=False))
    for name, parameter in ours.named_parameters(recurse=False):
        other = expected.get(name)
        if other is None or not other.is_floating_point() or parameter.is_meta:
            continue
        left, right = parameter.detach().float().cpu(), other.detach().float().cpu()
        if left.dim() == right.dim() == 2:
            left = left[: right.shape[0]]
        if left.shape == right.shape:
            found.append(_difference(name, left, right))
    return found


def compare_experts(ours: nn.Module, theirs: nn.Module) -> list[ExpertDifference]:
    """Each expert of vLLM's joined module beside those that ``theirs`` holds in a list.

    Returns:
        Nothing if the weights are packed, or transformers' experts are no list of three matrices.
    """
    import torch

    inner, outer = (getattr(ours, name).detach() for name in ("w13_weight", "w2_weight"))
    wanted = _experts_of(theirs, tuple(outer.shape[1:]))
    if not outer.is_floating_point() or len(wanted) != len(outer):
        return []
    down = torch.stack([each[2] for each in wanted]).flatten(1)
    found = []
    for number, (gate, up, out) in enumerate(wanted):
        held, led = inner[number].float().cpu(), outer[number].float().cpu()
        if held.shape != (gate.shape[0] + up.shape[0], gate.shape[1]):
            return []
        error = max(_error(held, torch.cat([gate, up])), _error(led, out))
        distances = (down - led.flatten()).norm(dim=1) / down.norm(dim=1)
        whose = int(distances.argmin())
        other = whose if whose != number and float(distances[whose]) <= 1e-2 else None
        swapped = other is None and _error(held, torch.cat([up, gate])) <= 1e-2
        found.append(ExpertDifference(number, error, other, swapped))
    return found


def _experts_of(
    container: nn.Module, outer: tuple[int, ...]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Gate, up and down of each; down is known by its shape ``outer``, the other two by order."""
    from torch import nn

    lists = [each for each in container.modules() if isinstance(each, nn.ModuleList)]
    found = []
    for expert in max(lists, key=len, default=nn.ModuleList()):
        matrices = [each.detach().float() for each in expert.parameters() if each.dim() == 2]
        down = [each for each in matrices if tuple(each.shape) == outer]
        if len(matrices) != 3 or not down:
            return []
        rest = [each for each in matrices if each is not down[-1]]
        found.append((rest[0], rest[1], down[-1]))
    return found


def _error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / (theirs.norm() or 1.0))


def _difference(name: str, ours: Tensor, theirs: Tensor) -> WeightDifference:
    """Rows of a matrix are what a lookup gives, so they become columns."""
    matrix = [each.T if each.dim() == 2 else each.reshape(1, -1) for each in (ours, theirs)]
    return WeightDifference(name, _error(ours, theirs), *matrix)
