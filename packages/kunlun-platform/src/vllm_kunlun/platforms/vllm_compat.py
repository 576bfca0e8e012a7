# SPDX-License-Identifier: Apache-2.0
"""What backends read of a step on the host: its block table, its lengths, a drafter's passes.

vLLM has them on the device alone, or under a private name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from vllm.v1.attention.backend import CommonAttentionMetadata

__all__ = ["DraftingSteps", "host_block_table", "host_seq_lens"]


def host_block_table(step: CommonAttentionMetadata) -> torch.Tensor:
    """Block table of the step on the host, int32 ``[B, max_blocks]``.

    A patch of the ledger hangs it on the device's copy. A caller with a table of its own pays one
    copy.
    """
    host: torch.Tensor | None = getattr(step.block_table_tensor, "host_copy", None)
    return step.block_table_tensor.cpu() if host is None else host


def host_seq_lens(step: CommonAttentionMetadata) -> torch.Tensor:
    """Sequence lengths of the step on the host, int32 ``[B]``.

    The runner fills the field before it copies the lengths to the device, so that reading it costs
    no sync. A caller that left it empty (a drafter) pays one copy.
    """
    host = step._seq_lens_cpu
    return step.seq_lens.cpu() if host is None else host


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
            _seq_lens_cpu=self._host,
            query_start_loc_cpu=step.query_start_loc_cpu.to(torch.int32),
        )
