# SPDX-License-Identifier: Apache-2.0
"""What every packed weight asks of its scales."""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.platforms.errors import CheckpointError

__all__ = ["check_finite"]


def check_finite(scales: Tensor, dtype: torch.dtype) -> None:
    """Each scale is a finite number in ``dtype``, in which it will be used. Shapes: any.

    Raises:
        CheckpointError: one is infinite or not a number.
    """
    if not bool(torch.isfinite(scales.to(dtype)).all()):
        name = str(dtype).removeprefix("torch.")
        raise CheckpointError(
            f"a scale is infinite or not a number in {name}: the checkpoint is damaged. Copy its "
            "files again, or quantise it again."
        )
