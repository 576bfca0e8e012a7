# SPDX-License-Identifier: Apache-2.0
"""Whether a model is served with more than text, which a model's configuration of 0.33 tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms import version

if TYPE_CHECKING:
    from vllm.config import ModelConfig

__all__ = ["takes_more_than_text"]

_HAS_INPUTS = version.installed_is_from("0.33")


def takes_more_than_text(model: ModelConfig) -> bool:
    """Whether any kind of input that ``model`` takes has a limit above 0 for each prompt."""
    if _HAS_INPUTS:
        return bool(model.supports_multimodal_inputs)
    from vllm.multimodal import MULTIMODAL_REGISTRY

    return bool(MULTIMODAL_REGISTRY.supports_multimodal_inputs(model))
