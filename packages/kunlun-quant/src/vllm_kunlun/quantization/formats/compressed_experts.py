# SPDX-License-Identifier: Apache-2.0
"""The method ``compressed-tensors``: which method the experts of a layer get."""

from __future__ import annotations

from typing import Any

from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationStrategy,
    QuantizationType,
)
from vllm.model_executor.layers.fused_moe import UnquantizedFusedMoEMethod
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
)

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.experts.compressed_int8 import KunlunW8A8Int8MoEMethod
from vllm_kunlun.quantization.experts.compressed_packed import (
    KunlunCompressedTensorsWNA16MoEMethod,
)
from vllm_kunlun.quantization.experts.fp8 import KunlunFp8MoEMethod
from vllm_kunlun.quantization.formats.compressed_fp8 import fp8_layout
from vllm_kunlun.quantization.layouts.gptq import BITS

__all__ = ["expert_method"]

_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def expert_method(
    config: CompressedTensorsConfig, layer: ExpertLayer, prefix: str
) -> FusedMoEMethodBase:
    """The method for one layer's experts, by what the checkpoint says of its first expert.

    Raises:
        UnsupportedError: the projections differ in their scheme, or the card has no arithmetic
            for it.
    """
    config._add_fused_moe_to_target_scheme_map()
    schemes = [config.get_scheme_dict(layer, f"{prefix}.0.{name}") for name in _PROJECTIONS]
    if any(scheme != schemes[0] for scheme in schemes):
        raise UnsupportedError(
            f"{prefix}: gate, up and down projection of the experts are quantised in different "
            "ways. Quantise all experts of a layer alike."
        )
    scheme = schemes[0]
    if scheme is None:
        return UnquantizedFusedMoEMethod(layer.moe_config)
    weights, activations = scheme["weights"], scheme["input_activations"]
    if activations is not None and _is_int8(weights, activations):
        return KunlunW8A8Int8MoEMethod(weights, activations, layer.moe_config)
    if (layout := fp8_layout(weights, activations)) is not None:
        return KunlunFp8MoEMethod(layout, layer.moe_config)
    if config._is_wNa16_group_channel(weights, activations):
        return _packed_method(config, layer, prefix, scheme)
    raise UnsupportedError(
        f"{prefix}: experts quantised as weights {weights}, activations {activations} have "
        "no arithmetic on this device. Use int8 (W8A8) with one scale per output channel and "
        "dynamic activations per token, or 4 or 8-bit weights in pack-quantized."
    )


def _is_int8(weights: QuantizationArgs, activations: QuantizationArgs) -> bool:
    """int8 per channel times int8 per token, both symmetric: what the card multiplies."""
    both = (weights, activations)
    return (
        all(q.num_bits == 8 and q.type == QuantizationType.INT and q.symmetric for q in both)
        and weights.strategy == QuantizationStrategy.CHANNEL
        and activations.strategy == QuantizationStrategy.TOKEN
        and bool(activations.dynamic)
    )


def _packed_method(
    config: CompressedTensorsConfig, layer: ExpertLayer, prefix: str, scheme: dict[str, Any]
) -> KunlunCompressedTensorsWNA16MoEMethod:
    """The method for packed weights, 4 or 8 bits, and float activations (W4A16, W8A16).

    Raises:
        UnsupportedError: another packing, other bits, or rows in the order of their activations.
    """
    weights = scheme["weights"]
    packing = scheme.get("format") or config.quant_format
    if packing != "pack-quantized" or weights.num_bits not in BITS:
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
