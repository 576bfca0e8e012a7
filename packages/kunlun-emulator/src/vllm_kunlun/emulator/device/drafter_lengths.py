# SPDX-License-Identifier: Apache-2.0
"""A drafter's sequence lengths, apart from the host's, where the device is host memory."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.v1.attention.backend import CommonAttentionMetadata
    from vllm.v1.spec_decode.eagle import SpecDecodeBaseProposer

__all__ = ["separate"]


def separate(drafter: SpecDecodeBaseProposer) -> None:
    """Let ``drafter.propose`` count in a tensor of its own.

    It adds to the device's lengths and to the host's, token by token. A copy from the host to a
    device that is host memory gives the tensor itself, in which everything would be added twice.
    """
    propose = drafter.propose

    @functools.wraps(propose)
    def proposed(
        *arguments: Any, common_attn_metadata: CommonAttentionMetadata, **keywords: Any
    ) -> Any:
        own = common_attn_metadata.replace(seq_lens=common_attn_metadata.seq_lens.clone())
        return propose(*arguments, common_attn_metadata=own, **keywords)

    drafter.propose = proposed
