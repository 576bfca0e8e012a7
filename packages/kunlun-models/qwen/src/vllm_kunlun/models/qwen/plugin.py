# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``vllm.general_plugins``: the model classes that differ from vLLM's."""

from __future__ import annotations

from vllm_kunlun.models.qwen.family import FAMILIES
from vllm_kunlun.platforms.model_registry import register_models

__all__ = ["register"]


def register() -> None:
    """Put our classes into vLLM's registry."""
    register_models(*FAMILIES)
