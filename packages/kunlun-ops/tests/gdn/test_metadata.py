# SPDX-License-Identifier: Apache-2.0
"""Metadata of a step of gated delta nets."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops.gdn.metadata import (
    KunlunGDNMetadataBuilder,
    widest_step,
)
from vllm_kunlun.ops.torch_ops.gdn import plan_chunks


def test_builder_is_one_that_vllm_tells_of_accepted_tokens() -> None:
    from vllm.v1.worker.gpu_model_runner import GDNAttentionMetadataBuilder

    assert issubclass(KunlunGDNMetadataBuilder, GDNAttentionMetadataBuilder)


@pytest.mark.parametrize(("tokens", "requests"), [(1, 8), (8, 8), (9, 8), (200, 3), (300, 8)])
def test_the_widest_step_has_most_states_and_chunks(tokens: int, requests: int) -> None:
    step = widest_step(tokens, requests, torch.device("cpu"))
    widest = step.prefill
    assert widest is not None and step.decode is None
    assert widest.num_tokens == step.num_actual_tokens == int(widest.cu_seqlens[-1]) == tokens
    assert (widest.cu_seqlens.diff() > 0).all()
    assert len(widest.state_indices) == min(tokens, requests)
    generator = torch.Generator().manual_seed(tokens)
    for _ in range(100):
        places = torch.randperm(tokens - 1, generator=generator)[: requests - 1] + 1
        ends = torch.cat((places.sort().values, torch.tensor([tokens]))).int()
        other = plan_chunks(torch.cat((torch.zeros(1).int(), ends)), torch.device("cpu"))
        assert len(other.indices) <= len(widest.chunks.indices)
