# SPDX-License-Identifier: Apache-2.0
"""A drafter counts on in lengths of its own."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import torch

from vllm_kunlun.emulator.device import drafter_lengths


@dataclasses.dataclass
class Step:
    seq_lens: torch.Tensor
    _seq_lens_cpu: torch.Tensor

    def replace(self, **changes: Any) -> Step:
        return dataclasses.replace(self, **changes)


def test_what_is_added_to_both_is_added_once() -> None:
    """As vLLM adds: to the device's lengths and to the host's, here of one tensor."""

    def propose(tokens: int, *, common_attn_metadata: Step) -> list[list[int]]:
        for _ in range(tokens):
            common_attn_metadata.seq_lens += 1
            common_attn_metadata._seq_lens_cpu += 1
        return [
            each.tolist()
            for each in (common_attn_metadata.seq_lens, common_attn_metadata._seq_lens_cpu)
        ]

    drafter: Any = SimpleNamespace(propose=propose)
    drafter_lengths.separate(drafter)
    host = torch.tensor([4, 7])
    step = Step(host, host.to("cpu"))
    assert drafter.propose(3, common_attn_metadata=step) == [[7, 10], [7, 10]]
