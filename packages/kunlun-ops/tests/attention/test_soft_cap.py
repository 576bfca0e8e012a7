# SPDX-License-Identifier: Apache-2.0
"""Attention with a soft cap on the scores, against a loop in float64."""

from __future__ import annotations

import pytest
from support.attention_steps import (
    BATCHES,
    CHUNKED,
    SPECULATIVE,
    Layer,
    Step,
    make_builder,
)

from vllm_kunlun.ops.attention import soft_cap


@pytest.mark.parametrize("interleaved", [False, True], ids=["packed", "interleaved"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("batch", sorted(BATCHES))
def test_soft_cap(batch: str, window: int | None, interleaved: bool) -> None:
    layer = Layer(soft_cap=1.5, window=window)
    Step(BATCHES[batch], layer, interleaved=interleaved).check()


def test_soft_cap_in_tiles_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_cap, "TILE_SCORES", 2_000)
    Step(CHUNKED, Layer(soft_cap=1.5)).check()


def test_soft_cap_with_speculative_queries() -> None:
    step = Step(SPECULATIVE, Layer(soft_cap=1.5))
    step.check(step.run(make_builder(step, speculative_tokens=2)))
