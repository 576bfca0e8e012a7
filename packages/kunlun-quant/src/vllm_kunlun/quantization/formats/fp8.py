# SPDX-License-Identifier: Apache-2.0
"""The method ``fp8``: checkpoints whose weights are converted as they are loaded."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.fused_moe import UnquantizedFusedMoEMethod
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.fp8 import Fp8Config
from vllm.model_executor.layers.quantization.utils.quant_utils import is_layer_skipped

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.experts.fp8 import KunlunFp8MoEMethod
from vllm_kunlun.quantization.formats.activations import ACTIVATIONS
from vllm_kunlun.quantization.layouts.fp8 import Fp8Layout
from vllm_kunlun.quantization.linear.fp8 import KunlunFp8LinearMethod

__all__ = ["KunlunFp8Config"]


class KunlunFp8Config(Fp8Config):
    """fp8 checkpoints of DeepSeek's format (scales per block) and with scales per tensor.

    Raises:
        UnsupportedError: the checkpoint is not in fp8: there is nothing to convert.
    """

    def __init__(self, is_checkpoint_fp8_serialized: bool = False, *args: Any, **more: Any) -> None:
        if not is_checkpoint_fp8_serialized:
            raise UnsupportedError(
                "quantization='fp8' would quantise to fp8 while loading, and the card has no fp8. "
                "Leave --quantization out, or use a checkpoint in int8 (compressed-tensors W8A8), "
                "AWQ or GPTQ."
            )
        super().__init__(is_checkpoint_fp8_serialized, *args, **more)

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return list(ACTIVATIONS)

    @property
    def layout(self) -> Fp8Layout:
        """What the checkpoint says of its scales."""
        static = self.activation_scheme == "static"
        if self.weight_block_size is None:
            return Fp8Layout("tensor", static_input=static)
        tall, wide = self.weight_block_size
        return Fp8Layout("block", "weight_scale_inv", (tall, wide))

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """The method of a dense layer or of experts, unless the checkpoint leaves it out."""
        if not isinstance(layer, (LinearBase, ExpertLayer)):
            return None
        layout = self.layout
        skipped = is_layer_skipped(
            prefix=prefix,
            ignored_layers=self.ignored_layers,
            fused_mapping=self.packed_modules_mapping,
        )
        if isinstance(layer, LinearBase):
            if skipped:
                return UnquantizedLinearMethod()
            return KunlunFp8LinearMethod(layout)
        if skipped:
            return UnquantizedFusedMoEMethod(layer.moe_config)
        return KunlunFp8MoEMethod(layout, layer.moe_config)
