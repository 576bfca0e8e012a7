# SPDX-License-Identifier: Apache-2.0
"""fp8 weights of compressed-tensors checkpoints."""

from __future__ import annotations

from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationStrategy,
    QuantizationType,
)

from vllm_kunlun.quantization.layouts.fp8 import Fp8Layout

__all__ = ["fp8_layout"]


def fp8_layout(weights: QuantizationArgs, activations: QuantizationArgs | None) -> Fp8Layout | None:
    """How fp8 weights are scaled; None if they are not fp8, or scaled in another way."""
    if weights.type != QuantizationType.FLOAT or weights.num_bits != 8 or not weights.symmetric:
        return None
    static = activations is not None and not activations.dynamic
    if weights.strategy == QuantizationStrategy.TENSOR:
        return Fp8Layout("tensor", static_input=static)
    if weights.strategy == QuantizationStrategy.CHANNEL:
        return Fp8Layout("channel", static_input=static)
    if weights.strategy == QuantizationStrategy.BLOCK and weights.block_structure is not None:
        tall, wide = weights.block_structure
        return Fp8Layout("block", block=(tall, wide), static_input=static)
    return None
