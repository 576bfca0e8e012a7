# SPDX-License-Identifier: Apache-2.0
"""Host copies of a step: the runner's where it has them, else one copy from the device."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.platforms.vllm_compat import step_on_host
from vllm_kunlun.platforms.vllm_compat.step_on_host import host_block_table, host_seq_lens


def test_a_block_table_with_and_without_a_host_copy() -> None:
    table = torch.tensor([[1, 2]], dtype=torch.int32)
    step = SimpleNamespace(block_table_tensor=table)
    assert torch.equal(host_block_table(step), table)
    table.host_copy = torch.tensor([[3, 4]], dtype=torch.int32)
    assert host_block_table(step) is table.host_copy


@pytest.mark.parametrize("name", ["_seq_lens_cpu", "seq_lens_cpu_upper_bound"])
def test_lengths_with_and_without_a_host_copy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_on_host, "SEQ_LENS", name)
    lengths = torch.tensor([5, 6], dtype=torch.int32)
    step = SimpleNamespace(seq_lens=lengths, **{name: None})
    assert torch.equal(host_seq_lens(step), lengths)
    setattr(step, name, torch.tensor([7, 8], dtype=torch.int32))
    assert host_seq_lens(step) is getattr(step, name)


@pytest.mark.parametrize("bounds", [False, True])
@pytest.mark.parametrize("drafts", [False, True])
def test_no_step_is_ahead_of_drafts_where_lengths_are_bounds(
    bounds: bool, drafts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_on_host, "_BOUNDS", bounds)
    config = SimpleNamespace(
        speculative_config=object() if drafts else None,
        scheduler_config=SimpleNamespace(async_scheduling=True),
    )
    step_on_host.keep_lengths_exact(config)
    assert config.scheduler_config.async_scheduling is not (bounds and drafts)
