# SPDX-License-Identifier: Apache-2.0
"""Host copies of a step: the runner's where it has them, else one copy from the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch

from vllm_kunlun.platforms import vllm_compat


def test_a_block_table_with_and_without_a_host_copy() -> None:
    table = torch.tensor([[1, 2]], dtype=torch.int32)
    step = SimpleNamespace(block_table_tensor=table)
    assert torch.equal(vllm_compat.host_block_table(step), table)
    table.host_copy = torch.tensor([[3, 4]], dtype=torch.int32)
    assert vllm_compat.host_block_table(step) is table.host_copy


def test_lengths_with_and_without_a_host_copy() -> None:
    lengths = torch.tensor([5, 6], dtype=torch.int32)
    step = SimpleNamespace(seq_lens=lengths, _seq_lens_cpu=None)
    assert torch.equal(vllm_compat.host_seq_lens(step), lengths)
    step._seq_lens_cpu = torch.tensor([7, 8], dtype=torch.int32)
    assert vllm_compat.host_seq_lens(step) is step._seq_lens_cpu


@dataclass
class Step:
    """What a proposal reads of vLLM's metadata."""

    seq_lens: torch.Tensor
    query_start_loc_cpu: torch.Tensor
    _seq_lens_cpu: torch.Tensor | None = None

    def replace(self, **changes: Any) -> Step:
        return replace(self, **changes)


def test_lengths_of_a_proposal_take_two_copies_from_the_device() -> None:
    steps = vllm_compat.DraftingSteps()
    given = Step(torch.tensor([4, 9]), torch.tensor([0, 1, 2], dtype=torch.int64))
    first = steps.step(given, 0)
    assert first._seq_lens_cpu.tolist() == [4, 9]
    assert first.query_start_loc_cpu.dtype == torch.int32
    given.seq_lens += 1  # in place, as vLLM does
    assert first._seq_lens_cpu.tolist() == [4, 9]
    assert steps.step(given, 1)._seq_lens_cpu.tolist() == [5, 10]
    given.seq_lens += 100  # from here on it is counted and not copied
    assert steps.step(given, 2)._seq_lens_cpu.tolist() == [6, 11]
    assert steps.step(given, 3)._seq_lens_cpu.tolist() == [7, 12]
