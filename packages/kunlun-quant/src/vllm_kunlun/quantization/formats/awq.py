# SPDX-License-Identifier: Apache-2.0
"""AWQ (arXiv:2306.00978): 4-bit weights packed along the output, on the vendor's functions."""

from __future__ import annotations

from typing import Any

import torch
from vllm.logger import init_logger
from vllm.model_executor.layers.fused_moe import FusedMoE, UnquantizedFusedMoEMethod
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.awq import AWQConfig, AWQLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.utils.quant_utils import is_layer_skipped

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.checkpoint import packed
from vllm_kunlun.quantization.experts.packed import KunlunAWQMoEMethod
from vllm_kunlun.quantization.layouts import repack
from vllm_kunlun.quantization.torch_ops.packed import awq_linear

__all__ = ["KunlunAWQConfig", "KunlunAWQLinearMethod"]

logger = init_logger(__name__)


class KunlunAWQConfig(AWQConfig):
    """vLLM's reading of the configuration; float16, bfloat16 and float32 activations."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AWQConfig:
        """As vLLM's. Raises UnsupportedError: other bits than 4, or a packing that is not AWQ's
        "GEMM"."""
        bits = config.get("w_bit", config.get("bits"))
        if bits != 4:
            raise UnsupportedError(
                f"AWQ with {bits} bits: only 4 are implemented. Quantise with bits=4, or use a "
                "GPTQ checkpoint for 8 bits."
            )
        version = str(config.get("version", "gemm")).lower()
        if version != "gemm":
            raise UnsupportedError(
                f"AWQ packed as version={version!r}: only 'gemm' is implemented. Quantise with "
                "version='GEMM'."
            )
        return super().from_config(config)

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16, torch.float32]

    def maybe_update_config(self, model_name: str, revision: str | None = None) -> None:
        packed.check_awq(model_name, revision, self.group_size)
        super().maybe_update_config(model_name, revision)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        if not isinstance(layer, (LinearBase, FusedMoE)):
            return None
        if is_layer_skipped(
            prefix,
            self.modules_to_not_convert,
            self.packed_modules_mapping,
            skip_with_substr=True,
        ):
            if isinstance(layer, FusedMoE):
                return UnquantizedFusedMoEMethod(layer.moe_config)
            return UnquantizedLinearMethod()
        if isinstance(layer, FusedMoE):
            return KunlunAWQMoEMethod(layer.moe_config, self.group_size)
        return KunlunAWQLinearMethod(self)


class KunlunAWQLinearMethod(AWQLinearMethod):
    """The card's layout from the load on: the fast one where a layer's width allows it."""

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
        if params_dtype == torch.bfloat16:
            logger.warning_once(
                "AWQ in bfloat16: the card's function takes float16, so activations are converted "
                "in every layer. Start with --dtype float16, which is also quicker on this card."
            )
        # The vendor's functions take float16 scales, whatever the activations are.
        super().create_weights(
            layer,
            input_size_per_partition,
            output_partition_sizes,
            input_size,
            output_size,
            torch.float16,
            **extra_weight_attrs,
        )

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        if not torch.isfinite(layer.scales).all():
            raise CheckpointError(
                f"{layer.prefix}: a scale is infinite or not a number in float16: the checkpoint "
                "is damaged."
            )
        layer.layout = repack.best_layout(layer.qweight.shape[1])
        for name in ("qweight", "qzeros"):
            words = repack.awq_to_kunlun(getattr(layer, name).data, layer.layout)
            setattr(layer, name, torch.nn.Parameter(words, requires_grad=False))
        layer.scales = torch.nn.Parameter(layer.scales.data, requires_grad=False)

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x W + bias``; see :func:`vllm_kunlun.quantization.torch_ops.packed.awq_linear`."""
        group_size = layer.qweight.shape[0] // layer.scales.shape[0]
        out = awq_linear(
            x.reshape(-1, x.shape[-1]),
            layer.qweight,
            layer.qzeros,
            layer.scales,
            group_size,
            layer.layout,
        )
        if bias is not None:
            out = out + bias
        return out.view(*x.shape[:-1], -1)
