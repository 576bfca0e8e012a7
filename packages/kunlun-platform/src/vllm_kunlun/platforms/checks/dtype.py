# SPDX-License-Identifier: Apache-2.0
"""What a model may compute in."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["SUPPORTED_DTYPES", "check"]

SUPPORTED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
"""In vLLM's order of preference for ``dtype="auto"``: fp16 runs at twice the speed of bf16."""


def check(dtype: torch.dtype, supported: Sequence[torch.dtype] = SUPPORTED_DTYPES) -> None:
    """Refuse what the card cannot compute in.

    Args:
        supported: default the card's; an attention backend has its own.

    Raises:
        UnsupportedError: ``dtype`` is none of those.
    """
    if dtype not in supported:
        *others, last = (str(each).removeprefix("torch.") for each in supported)
        raise UnsupportedError(
            f"dtype={dtype} does not run on the Kunlun P800, which computes in "
            f"{', '.join(others)} or {last}. Start with --dtype float16."
        )
