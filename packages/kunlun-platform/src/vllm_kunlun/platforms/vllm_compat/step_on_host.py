# SPDX-License-Identifier: Apache-2.0
"""What backends read of a step on the host: its block table and its lengths.

vLLM has them on the device alone, or under a private name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vllm_kunlun.platforms import version

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.attention.backend import CommonAttentionMetadata

__all__ = ["SEQ_LENS", "host_block_table", "host_seq_lens", "keep_lengths_exact"]

_BOUNDS = version.installed_is_from("0.33")

SEQ_LENS = "seq_lens_cpu_upper_bound" if _BOUNDS else "_seq_lens_cpu"
"""The field of a step in which the runner leaves its lengths on the host.

Since 0.33 they are bounds: exact, unless drafts are verified a step ahead
(:func:`keep_lengths_exact`).
"""


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
    host: torch.Tensor | None = getattr(step, SEQ_LENS)
    return step.seq_lens.cpu() if host is None else host


def keep_lengths_exact(config: VllmConfig) -> None:
    """Schedule no step ahead of drafts, where the host would not know how many were accepted."""
    if _BOUNDS and config.speculative_config is not None:
        config.scheduler_config.async_scheduling = False
