# SPDX-License-Identifier: Apache-2.0
"""What the rejection sampler is given of the target: probabilities until 0.15, then logits."""

from __future__ import annotations

import torch

from vllm_kunlun.platforms import version

__all__ = ["target_probabilities"]

_LOGITS = version.installed_is_from("0.16")


def target_probabilities(given: torch.Tensor) -> torch.Tensor:
    """Probabilities in float32. Shapes: ``[T, V]`` -> ``[T, V]``."""
    return given.softmax(-1, dtype=torch.float32) if _LOGITS else given
