# SPDX-License-Identifier: Apache-2.0
"""vLLM's loader of int8 experts of compressed-tensors, which 0.33 keeps in a file of its own."""

from __future__ import annotations

from vllm_kunlun.platforms import version

if version.installed_is_from("0.33"):
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe.compressed_tensors_moe_w8a8_int8 import (  # noqa: E501
        CompressedTensorsW8A8Int8MoEMethod,
    )
else:
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
        CompressedTensorsW8A8Int8MoEMethod,
    )

__all__ = ["CompressedTensorsW8A8Int8MoEMethod"]
