# SPDX-License-Identifier: Apache-2.0
"""Experts with weights of 4 or 8 bits and float activations (W4A16, W8A16)."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.layers.fused_moe import FusedMoE
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
)

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.quantization.experts.packed import KunlunCompressedTensorsWNA16MoEMethod

__all__ = ["packed_method"]


def packed_method(
    config: CompressedTensorsConfig, layer: FusedMoE, prefix: str, scheme: dict[str, Any]
) -> KunlunCompressedTensorsWNA16MoEMethod:
    """The method for a scheme of packed weights.

    Raises: UnsupportedError: another packing, other bits, or rows in order of activations.
    """
    weights = scheme["weights"]
    packing = scheme.get("format") or config.quant_format
    if packing != "pack-quantized" or weights.num_bits not in (4, 8):
        raise UnsupportedError(
            f"{prefix}: experts of {weights.num_bits} bits in format {packing!r}: 4 and 8 bits in "
            "'pack-quantized' are implemented."
        )
    if weights.actorder in ("group", "dynamic"):
        raise UnsupportedError(
            f"{prefix}: experts with actorder={weights.actorder}: quantise with actorder=weight."
        )
    return KunlunCompressedTensorsWNA16MoEMethod(
        layer.moe_config, weights.num_bits, weights.group_size or -1, weights.symmetric
    )
