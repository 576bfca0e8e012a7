# SPDX-License-Identifier: Apache-2.0
"""A drafter's passes on the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from vllm_kunlun.platforms.vllm_compat.drafting import DraftingSteps
from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS


@dataclass
class Step:
    """What a proposal reads of vLLM's metadata."""

    seq_lens: torch.Tensor
    query_start_loc_cpu: torch.Tensor
    on_host: torch.Tensor | None = None

    def replace(self, **changes: Any) -> Step:
        return replace(self, on_host=changes.pop(SEQ_LENS), **changes)


def test_lengths_of_a_proposal_take_two_copies_from_the_device() -> None:
    steps = DraftingSteps()
    given = Step(torch.tensor([4, 9]), torch.tensor([0, 1, 2], dtype=torch.int64))
    first = steps.step(given, 0)
    assert first.on_host.tolist() == [4, 9]
    assert first.query_start_loc_cpu.dtype == torch.int32
    given.seq_lens += 1  # in place, as vLLM does
    assert first.on_host.tolist() == [4, 9]
    assert steps.step(given, 1).on_host.tolist() == [5, 10]
    given.seq_lens += 100  # from here on it is counted and not copied
    assert steps.step(given, 2).on_host.tolist() == [6, 11]
    assert steps.step(given, 3).on_host.tolist() == [7, 12]
