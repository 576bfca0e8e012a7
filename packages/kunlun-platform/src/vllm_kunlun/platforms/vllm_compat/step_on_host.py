# SPDX-License-Identifier: Apache-2.0
"""What backends read of a step on the host: its block table and its lengths.

vLLM has them on the device alone, or under a private name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from vllm.v1.attention.backend import CommonAttentionMetadata

__all__ = ["host_block_table", "host_seq_lens"]


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
