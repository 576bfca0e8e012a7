# SPDX-License-Identifier: Apache-2.0
"""GPTQ (arXiv:2210.17323): 4 and 8-bit weights packed along the input, on the vendor's function."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.fused_moe import UnquantizedFusedMoEMethod
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.gptq import GPTQConfig
from vllm.model_executor.layers.quantization.utils.gptq_utils import (
    get_dynamic_override,
    get_linear_quant_method,
    is_layer_gptq_quantized,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.checkpoint import packed
from vllm_kunlun.quantization.experts.gptq import KunlunGPTQMoEMethod
from vllm_kunlun.quantization.formats.activations import ACTIVATIONS
from vllm_kunlun.quantization.layouts.gptq import BITS, ZERO_OFFSETS
from vllm_kunlun.quantization.linear.gptq import KunlunGPTQLinearMethod
from vllm_kunlun.quantization.linear.head import KunlunHeadMethod
from vllm_kunlun.quantization.linear.parts import KunlunPartsLinearMethod, part_names

__all__ = ["KunlunGPTQConfig"]


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
        if found not in ZERO_OFFSETS:
            raise UnsupportedError(
                f"GPTQ checkpoint_format={found!r}: 'gptq' and 'gptq_v2' are implemented. Convert "
                "the checkpoint with GPTQModel."
            )
        return super().from_config({**config, "checkpoint_format": found})

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return list(ACTIVATIONS)

    def maybe_update_config(self, model_name: str, revision: str | None = None) -> None:
        shapes = packed.shapes_of(model_name, revision)
        packed.check_gptq(shapes, self)
        self.lm_head_quantized = "lm_head" in packed.quantised_kinds(shapes)
        super().maybe_update_config(model_name, revision)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """The method of a dense layer or of experts, with the settings of its own name."""
        if isinstance(layer, ExpertLayer):
            return self._expert_method(layer, prefix)
        if isinstance(layer, ParallelLMHead):
            method = get_linear_quant_method(self, layer, prefix, KunlunGPTQLinearMethod)
            if isinstance(method, KunlunGPTQLinearMethod):
                return KunlunHeadMethod(method, prefix)
            return method
        if not isinstance(layer, LinearBase):
            return None
        names = part_names(prefix, self.packed_modules_mapping)
        settings = [self._settings(name) for name in names]
        if any(each != settings[0] for each in settings):
            return KunlunPartsLinearMethod(self, names)
        # Rules are about the checkpoint's names, of which a fused layer has several.
        return get_linear_quant_method(self, layer, names[0], KunlunGPTQLinearMethod)

    def _settings(self, name: str) -> dict[str, Any] | None:
        """Bits, group size and order of one layer of the checkpoint; None where it is of floats."""
        override = get_dynamic_override(self, layer_name=name)
        if override is False or not is_layer_gptq_quantized(
            name, self.modules_in_block_to_quantize
        ):
            return None
        return {
            "bits": self.weight_bits,
            "group_size": self.group_size,
            "desc_act": self.desc_act,
            **(override if isinstance(override, dict) else {}),
        }

    def _expert_method(self, layer: ExpertLayer, prefix: str) -> QuantizeMethodBase:
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
            ZERO_OFFSETS[self.checkpoint_format],
            settings["desc_act"],
        )
