# SPDX-License-Identifier: Apache-2.0
"""vLLM's reading of AWQ checkpoints: of its configuration, and of a dense layer's tensors.

0.33 has one configuration for the kernels that had one each, and another name of it.
"""

from __future__ import annotations

from typing import Any

from vllm.model_executor.layers.quantization.utils import quant_utils

from vllm_kunlun.platforms import version

_AUTO = version.installed_is_from("0.33")

if version.installed_is_from("0.33"):
    from vllm.model_executor.layers.quantization.auto_awq import AutoAWQConfig as AWQConfig
    from vllm.model_executor.layers.quantization.auto_awq import (
        BaseAWQLinearMethod as AWQLinearMethod,
    )
else:
    from vllm.model_executor.layers.quantization.awq import AWQConfig, AWQLinearMethod

__all__ = ["AWQConfig", "AWQLinearMethod", "is_left_out"]


def is_left_out(name: str, left_out: list[str]) -> bool:
    """Whether a text of ``left_out`` is a part of ``name``."""
    how: dict[str, Any] = {"match_mode": "substring"} if _AUTO else {"skip_with_substr": True}
    return bool(quant_utils.is_layer_skipped(name, left_out, **how))
