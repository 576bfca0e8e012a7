# SPDX-License-Identifier: Apache-2.0
"""``doctor --symptom``: the probes that decide between the causes of what a user sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

from vllm_kunlun.cli import graphs
from vllm_kunlun.cli.check import Check
from vllm_kunlun.cli.configuration import check_folder
from vllm_kunlun.cli.symptoms import answers, capture, limits

__all__ = ["Symptom", "examine"]

Say = Callable[[str], None]


class Symptom(str, Enum):
    """What a user sees."""

    garbage = "garbage"
    repeats = "repeats"
    truncated = "truncated"
    memory = "memory"
    graphs = "graphs"
    weights = "weights"


def examine(symptom: Symptom, model: Path, say: Say) -> list[Check]:
    """One check for each cause, the likeliest first; the first that is not ok is the one.

    Args:
        model: checkpoint folder.
        say: told what takes long.

    Raises:
        UnsupportedError: the folder holds no config.json.
    """
    check_folder(model)
    probes: dict[Symptom, Callable[[], Iterator[Check]]] = {
        Symptom.garbage: lambda: answers.garbage(model, say),
        Symptom.repeats: lambda: answers.repeats(model, say),
        Symptom.truncated: lambda: limits.truncated(model, say),
        Symptom.memory: lambda: limits.memory(model, say),
        Symptom.graphs: lambda: _graphs(model, say),
        Symptom.weights: lambda: answers.weights(model),
    }
    return list(probes[symptom]())


def _graphs(model: Path, say: Say) -> Iterator[Check]:
    from vllm_kunlun.platforms.settings import splitting_ops

    yield from graphs.check_settings()
    required = splitting_ops.required()
    yield Check(
        "splitting_ops",
        "ok",
        f"{len(required)} ops end a piece, and are added to those that a user gives: "
        f"{', '.join(required)}",
    )
    yield from capture.captured(model, say)
