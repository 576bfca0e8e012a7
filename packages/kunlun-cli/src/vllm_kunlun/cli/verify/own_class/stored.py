# SPDX-License-Identifier: Apache-2.0
"""What a judge said, as one file of safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_kunlun.cli.verify.judge import Judge

if TYPE_CHECKING:
    from torch import Tensor

    from vllm_kunlun.cli.verify.trace import Event

__all__ = ["as_expected", "read", "write"]


def as_expected(events: Sequence[Event]) -> dict[tuple[str, str], tuple[Tensor, ...]]:
    """Of the first call of each module.

    Tensors of one shape are handed on as parts of a sum (what is added, and what it is added to),
    so the sum stands first.
    """
    expected: dict[tuple[str, str], tuple[Tensor, ...]] = {}
    for event in events:
        tensors = event.tensors
        if len(tensors) > 1 and len({each.shape for each in tensors}) == 1:
            tensors = (sum(tensors[1:], tensors[0]), *tensors)
        expected.setdefault((event.module, event.what), tensors)
    return expected


def write(judge: Judge, file: Path) -> None:
    """Save all but a model."""
    from safetensors.torch import save_file

    tensors = {f"d {at}": each for at, each in enumerate(judge.distributions)}
    tensors |= {f"a {name}": each for name, each in judge.acts.items()}
    calls = []
    for at, ((module, what), values) in enumerate(judge.expected.items()):
        calls.append([module, what, len(values)])
        tensors |= {f"e {at} {part}": value for part, value in enumerate(values)}
    told = {"name": judge.name, "answers": judge.answers, "head": judge.head,
            "layers": judge.layers, "calls": calls}  # fmt: skip
    apart = {name: each.contiguous().clone() for name, each in tensors.items()}
    save_file(apart, file, {"judge": json.dumps(told)})


def read(file: Path) -> Judge:
    """As it was written."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        told = json.loads(opened.metadata()["judge"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 -- no mapping
    return Judge(
        name=told["name"],
        answers=told["answers"],
        distributions=[tensors[f"d {at}"] for at in range(len(told["answers"]))],
        expected={
            (module, what): tuple(tensors[f"e {at} {part}"] for part in range(count))
            for at, (module, what, count) in enumerate(told["calls"])
        },
        head=told["head"],
        layers=told["layers"],
        acts={name[2:]: each for name, each in tensors.items() if name.startswith("a ")},
    )
