# SPDX-License-Identifier: Apache-2.0
"""The methods ``fp8`` and ``mxfp4``: checkpoints that the card runs in another format."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.fused_moe import FusedMoE, UnquantizedFusedMoEMethod
from vllm.model_executor.layers.linear import (
    WEIGHT_LOADER_V2_SUPPORTED,
    LinearBase,
    LinearMethodBase,
    UnquantizedLinearMethod,
)
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.fp8 import Fp8Config
from vllm.model_executor.layers.quantization.mxfp4 import Mxfp4Config
from vllm.model_executor.layers.quantization.utils.quant_utils import is_layer_skipped

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.quantization.experts.fp8 import KunlunFp8MoEMethod, KunlunMxfp4MoEMethod
from vllm_kunlun.quantization.linear.fp8 import Fp8Layout, KunlunFp8Scheme

__all__ = ["KunlunFp8Config", "KunlunFp8LinearMethod", "KunlunMxfp4Config"]

_DTYPES = [torch.float16, torch.bfloat16, torch.float32]


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
        return list(_DTYPES)

    @property
    def layout(self) -> Fp8Layout:
        """What the checkpoint says of its scales."""
        static = self.activation_scheme == "static"
        if self.weight_block_size is None:
            return Fp8Layout("tensor", static_input=static)
        tall, wide = self.weight_block_size
        return Fp8Layout("block", "weight_scale_inv", (tall, wide))

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        if not isinstance(layer, (LinearBase, FusedMoE)):
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


class KunlunFp8LinearMethod(LinearMethodBase):
    """vLLM's interface of a linear layer on :class:`KunlunFp8Scheme`."""

    def __init__(self, layout: Fp8Layout) -> None:
        self.scheme = KunlunFp8Scheme(layout)

    def create_weights(
        self,
        layer: torch.nn.Module,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        self.scheme.create_weights(
            layer,
            output_partition_sizes,
            input_size_per_partition,
            params_dtype,
            extra_weight_attrs["weight_loader"],
            input_size=input_size,
            output_size=output_size,
        )

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        self.scheme.process_weights_after_loading(layer)

    def apply(self, layer: torch.nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.scheme.apply_weights(layer, x, bias)


# vLLM loads the parameter classes of this method by a list of class names.
if KunlunFp8LinearMethod.__name__ not in WEIGHT_LOADER_V2_SUPPORTED:
    WEIGHT_LOADER_V2_SUPPORTED.append(KunlunFp8LinearMethod.__name__)


class KunlunMxfp4Config(Mxfp4Config):
    """gpt-oss checkpoints: experts in mxfp4, all else in the model's dtype."""

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return list(_DTYPES)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        if isinstance(layer, FusedMoE):
            return KunlunMxfp4MoEMethod(layer.moe_config)
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None
