# SPDX-License-Identifier: Apache-2.0
"""Host copies of a step: the runner's where it has them, else one copy from the device."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from vllm_kunlun.platforms.vllm_compat.step_on_host import host_block_table, host_seq_lens


def test_a_block_table_with_and_without_a_host_copy() -> None:
    table = torch.tensor([[1, 2]], dtype=torch.int32)
    step = SimpleNamespace(block_table_tensor=table)
    assert torch.equal(host_block_table(step), table)
    table.host_copy = torch.tensor([[3, 4]], dtype=torch.int32)
    assert host_block_table(step) is table.host_copy


def test_lengths_with_and_without_a_host_copy() -> None:
    lengths = torch.tensor([5, 6], dtype=torch.int32)
    step = SimpleNamespace(seq_lens=lengths, _seq_lens_cpu=None)
    assert torch.equal(host_seq_lens(step), lengths)
    step._seq_lens_cpu = torch.tensor([7, 8], dtype=torch.int32)
    assert host_seq_lens(step) is step._seq_lens_cpu
