# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters: several, none, and padded metadata in one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome

__all__ = ["LORA"]

ADAPTERS, WIDTH, RANK, COLUMNS = 3, 37, 8, 53
OFFSET, ROOM = 5, 11
SCALING = 0.75

Segments = tuple[tuple[int, int], ...]
"""(tokens, adapter) of each segment."""


def _by_segment(inputs: Inputs, segments: Segments) -> tuple[Tensor, ...]:
    return (
        inputs.tensor([length for length, _ in segments], torch.int32),
        inputs.tensor([adapter for _, adapter in segments], torch.int32),
    )


def _by_token(inputs: Inputs, segments: Segments, rest: int) -> tuple[Tensor, ...]:
    return (inputs.tensor(_adapter_of_each(segments, rest), torch.int64),)


def _adapter_of_each(segments: Segments, rest: int) -> list[int]:
    return [adapter for length, adapter in segments for _ in range(length)] + [-1] * rest


def _shrink(inputs: Inputs, function: str, segments: Segments, rest: int) -> Call:
    adapters = _adapter_of_each(segments, rest)
    x, lora_a = inputs.normal(len(adapters), WIDTH), inputs.normal(ADAPTERS, RANK, WIDTH)
    output = inputs.normal(len(adapters), RANK).zero_()
    expected = torch.zeros(len(adapters), RANK, dtype=torch.float64)
    for token, adapter in enumerate(adapters):
        if adapter >= 0:
            expected[token] = SCALING * lora_a[adapter].double() @ x[token].double()
    which = _which(inputs, function, segments, rest)
    return Call((x, lora_a, *which, output, SCALING), expected={2 + len(which): expected})


def _expand(inputs: Inputs, function: str, segments: Segments, rest: int, offset: int) -> Call:
    args, expected = _expand_arguments(inputs, function, segments, rest, offset)
    return Call(args, expected={len(args) - 2: expected})


def _expand_arguments(
    inputs: Inputs, function: str, segments: Segments, rest: int, offset: int
) -> tuple[tuple[Any, ...], Tensor]:
    adapters = _adapter_of_each(segments, rest)
    x, lora_b = inputs.normal(len(adapters), RANK), inputs.normal(ADAPTERS, COLUMNS, RANK)
    output = inputs.normal(len(adapters), COLUMNS + ROOM)
    expected = output.double()
    for token, adapter in enumerate(adapters):
        if adapter >= 0:
            delta = lora_b[adapter].double() @ x[token].double()
            expected[token, offset : offset + COLUMNS] += delta
    which = _which(inputs, function, segments, rest)
    return (x, lora_b, *which, output, offset), expected


def _untouched(inputs: Inputs, function: str, segments: Segments) -> Call:
    """Rows without an adapter must keep their bits: not even a zero may be added."""
    args, _ = _expand_arguments(inputs, function, segments, 0, OFFSET)
    place = len(args) - 2
    adapters = torch.tensor(_adapter_of_each(segments, 0))
    args[place][adapters < 0] = -0.0  # adding 0.0 would make it 0.0
    before = args[place].clone()

    def judge(outcome: Outcome) -> float:
        signs = [torch.signbit(t[adapters < 0]) for t in (before, outcome[place])]
        values = [t[adapters < 0] for t in (before, outcome[place])]
        return 0.0 if torch.equal(*signs) and torch.equal(*values) else float("inf")

    return Call(args, judge=judge)


def _which(inputs: Inputs, function: str, segments: Segments, rest: int) -> tuple[Tensor, ...]:
    if function.startswith("bgmv"):
        return _by_token(inputs, segments, rest)
    return _by_segment(inputs, segments)


MIXED: Segments = ((3, 1), (1, -1), (4, 0), (2, 1), (1, 2))
LONG: Segments = ((150, 2), (31, -1), (7, 0))
NONE: Segments = ((5, -1),)
PADDED: Segments = ((2, 0), (3, 2), (0, -1), (0, -1))
SMALL = {torch.float16: 6e-3, torch.bfloat16: 4e-2}
"""Of a card that rounds the buffer or the sum once more than the emulator."""


def _cases(function: str, build: Callable[..., Call], *more: int) -> tuple[Case, ...]:
    target = f"xspeedgate_ops.{function}"
    segmented = function.startswith("sgmv")

    def case(label: str, segments: Segments, rest: int = 0, assumption: str | None = None) -> Case:
        return Case(
            target,
            label,
            lambda inputs: build(inputs, function, segments, rest, *more),
            tolerances=SMALL,
            assumption=assumption,
        )

    cases = (
        case("several adapters", ((3, 1), (4, 0), (2, 1), (1, 2))),
        case("some without an adapter", MIXED, assumption="lora-negative-index"),
        case("many tokens", LONG, assumption="lora-negative-index"),
        case("none with an adapter", NONE, assumption="lora-negative-index"),
        case("no tokens", ()),
    )
    if not segmented:
        return cases
    return (
        *cases,
        case("empty segments", PADDED, assumption="lora-empty-segment"),
        case("rows after the last segment", PADDED, 3, assumption="lora-rows-after-segments"),
    )


def _expand_cases(function: str) -> tuple[Case, ...]:
    return (
        *_cases(function, _expand, OFFSET),
        Case(f"xspeedgate_ops.{function}", "first columns",
             lambda inputs: _expand(inputs, function, ((2, 1), (1, 0)), 0, 0), tolerances=SMALL),
        Case(f"xspeedgate_ops.{function}", "bits of rows without an adapter",
             lambda inputs: _untouched(inputs, function, MIXED), assumption="lora-negative-index"),
    )  # fmt: skip


LORA = (
    *_cases("sgmv_shrink_sdnn", _shrink),
    *_cases("sgmv_shrink_cluster", _shrink),
    *_cases("bgmv_shrink_cluster", _shrink),
    *_expand_cases("sgmv_expand_sdnn"),
    *_expand_cases("sgmv_expand_cluster"),
    *_expand_cases("bgmv_expand_cluster"),
)
