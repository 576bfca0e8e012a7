# SPDX-License-Identifier: Apache-2.0
"""What backends read of a drafter's passes on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS

if TYPE_CHECKING:
    from vllm.v1.attention.backend import CommonAttentionMetadata

__all__ = ["DraftingSteps"]


class DraftingSteps:
    """Host lengths of a drafter's passes, which vLLM keeps up on the device alone.

    What was rejected is known to the device only and enters between the first and the second pass
    of a proposal; each later pass is one token longer. So two copies make a whole proposal, however
    many tokens it has. vLLM does not draft beyond the model's length, where this would not hold.
    """

    _host: torch.Tensor

    def step(self, step: CommonAttentionMetadata, draft_index: int) -> CommonAttentionMetadata:
        """``step`` with host lengths and host query offsets, both int32, that are true."""
        # A copy of its own: vLLM goes on counting in the device's tensor.
        self._host = self._host + 1 if draft_index > 1 else step.seq_lens.to("cpu", copy=True)
        return step.replace(
            **{SEQ_LENS: self._host},
            query_start_loc_cpu=step.query_start_loc_cpu.to(torch.int32),
        )
