# SPDX-License-Identifier: Apache-2.0
"""GPTQ (arXiv:2210.17323): 4 and 8-bit weights packed along the input, on the vendor's function."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.fused_moe import FusedMoE, UnquantizedFusedMoEMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.gptq import GPTQConfig, GPTQLinearMethod
from vllm.model_executor.layers.quantization.utils.gptq_utils import (
    get_dynamic_override,
    get_linear_quant_method,
)
from vllm.model_executor.parameter import RowvLLMParameter

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.checkpoint import packed
from vllm_kunlun.quantization.experts.packed import KunlunGPTQMoEMethod
from vllm_kunlun.quantization.layouts import gptq
from vllm_kunlun.quantization.linear.packed import apply_weights, layer_name, set_weights

__all__ = ["KunlunGPTQConfig", "KunlunGPTQLinearMethod"]

FORMATS = {"": 1, "gptq": 1, "gptq_v2": 0}
"""Checkpoint format -> what is added to a stored zero."""

BITS = (4, 8)


class KunlunGPTQConfig(GPTQConfig):
    """vLLM's reading of the configuration; float16, bfloat16 and float32 activations."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GPTQConfig:
        """As vLLM's. Raises UnsupportedError: bits or a format that are not implemented."""
        dynamic = (config.get("dynamic") or {}).values()
        for bits in [config.get("bits"), *(each["bits"] for each in dynamic if "bits" in each)]:
            if bits not in BITS:
                raise UnsupportedError(
                    f"GPTQ with {bits} bits: 4 and 8 are implemented. Quantise with bits=4 or 8."
                )
        found = config.get("checkpoint_format") or config.get("format") or ""
        if found not in FORMATS:
            raise UnsupportedError(
                f"GPTQ checkpoint_format={found!r}: 'gptq' and 'gptq_v2' are implemented. Convert "
                "the checkpoint with GPTQModel."
            )
        return super().from_config({**config, "checkpoint_format": found})

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16, torch.float32]

    def maybe_update_config(self, model_name: str, revision: str | None = None) -> None:
        packed.check_gptq(model_name, revision, self)
        super().maybe_update_config(model_name, revision)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        if isinstance(layer, FusedMoE):
            return self._expert_method(layer, prefix)
        return get_linear_quant_method(self, layer, prefix, KunlunGPTQLinearMethod)

    def _expert_method(self, layer: FusedMoE, prefix: str) -> QuantizeMethodBase:
        """All experts of a layer alike, as the first one's gate projection is."""
        first = f"{prefix}.0.gate_proj"
        override = get_dynamic_override(self, layer_name=first)
        named = self.modules_in_block_to_quantize
        if override is False or (named and not any(n in first or prefix in n for n in named)):
            return UnquantizedFusedMoEMethod(layer.moe_config)
        settings: dict[str, Any] = {
            "bits": self.weight_bits,
            "group_size": self.group_size,
            "desc_act": self.desc_act,
            **(override if isinstance(override, dict) else {}),
        }
        return KunlunGPTQMoEMethod(
            layer.moe_config,
            settings["bits"],
            settings["group_size"],
            FORMATS[self.checkpoint_format],
            settings["desc_act"],
        )


class _SharedOrder(RowvLLMParameter):
    """``g_idx`` of a fused layer, of which every part must bring the same one."""

    _first: torch.Tensor | None = None

    def _assert_and_load(self, loaded_weight: torch.Tensor) -> None:
        super()._assert_and_load(loaded_weight)
        if self._first is None:
            self._first = loaded_weight.clone()
        elif not torch.equal(self._first, loaded_weight):
            raise CheckpointError(
                "the parts of a fused layer (q, k, v, or gate and up) were quantised with "
                "different g_idx. Quantise them together, or with desc_act=False."
            )


class KunlunGPTQLinearMethod(GPTQLinearMethod):
    """The vendor's function, fed as :mod:`vllm_kunlun.quantization.layouts.gptq` says."""

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
        super().create_weights(
            layer,
            input_size_per_partition,
            output_partition_sizes,
            input_size,
            output_size,
            params_dtype,
            **extra_weight_attrs,
        )
        order = _SharedOrder(
            data=layer.g_idx.data,
            input_dim=0,
            weight_loader=extra_weight_attrs.get("weight_loader"),
        )
        layer.register_parameter("g_idx", order)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        config = self.quant_config
        g_idx = layer.g_idx.data
        if config.group_size == -1:
            g_idx = None
        elif not config.desc_act:
            run = torch.arange(g_idx.shape[0], device=g_idx.device) // config.group_size
            if not torch.equal(g_idx - g_idx[0], run.to(g_idx.dtype)):
                raise CheckpointError(
                    f"{layer_name(layer)}: g_idx is not in order although the configuration says "
                    "desc_act=false. Set desc_act to true in quantize_config."
                )
            g_idx = None
        zeros = gptq.unpack_zeros(layer.qzeros.data, config.weight_bits)
        zeros += FORMATS[config.checkpoint_format]
        set_weights(layer, layer.qweight.data, zeros, layer.scales.data, config.weight_bits, g_idx)
        del layer.g_idx

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x W + bias``; see :func:`vllm_kunlun.quantization.torch_ops.packed.gptq_linear`."""
        return apply_weights(layer, x, bias)
