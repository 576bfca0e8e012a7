# SPDX-License-Identifier: Apache-2.0
"""Adapters that the vendor's functions do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["check"]


def check(config: VllmConfig) -> None:
    """Refuse adapters on experts, and adapters in another dtype than the model's.

    Raises:
        UnsupportedError: naming the option and the alternative.
    """
    lora, model = config.lora_config, config.model_config
    if lora is None or model is None:
        return
    if model.is_moe:
        raise UnsupportedError(
            "--enable-lora with a mixture of experts: vLLM gives every expert layer adapters, and "
            "the vendor's libraries have no function for them. Merge the adapter into the "
            "checkpoint, and leave --enable-lora out."
        )
    if lora.lora_dtype != model.dtype:
        raise UnsupportedError(
            f"--lora-dtype {lora.lora_dtype} with a model in {model.dtype}: the vendor's functions "
            "take tokens and adapters of one dtype. Use --lora-dtype auto; adapters are converted."
        )
