# SPDX-License-Identifier: Apache-2.0
"""AWQ (arXiv:2306.00978): 4-bit weights packed along the output, on the vendor's functions."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.fused_moe import UnquantizedFusedMoEMethod
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.checkpoint import packed
from vllm_kunlun.quantization.experts.awq import KunlunAWQMoEMethod
from vllm_kunlun.quantization.formats.activations import ACTIVATIONS
from vllm_kunlun.quantization.linear.awq import KunlunAWQLinearMethod
from vllm_kunlun.quantization.linear.head import KunlunHeadMethod
from vllm_kunlun.quantization.linear.parts import KunlunPartsLinearMethod, part_names
from vllm_kunlun.quantization.vllm_compat.awq import AWQConfig, is_left_out

__all__ = ["KunlunAWQConfig"]


class KunlunAWQConfig(AWQConfig):
    """vLLM's reading of the configuration; float16, bfloat16 and float32 activations."""

    kinds: frozenset[str] = frozenset()
    """Last parts of the names of the checkpoint's quantised layers."""

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

    @classmethod
    def override_quantization_method(cls, *_: Any, **__: Any) -> None:
        """None: the checkpoint's own name of its method is the one that it is found by."""

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return list(ACTIVATIONS)

    def maybe_update_config(
        self, model_name: str, *arguments: Any, revision: str | None = None, **options: Any
    ) -> None:
        shapes = packed.shapes_of(model_name, revision)
        packed.check_awq(shapes, self.group_size)
        self.kinds = packed.quantised_kinds(shapes)
        super().maybe_update_config(model_name, *arguments, revision=revision, **options)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """The method of a dense layer or of experts, by the layer's path ``prefix``."""
        if isinstance(layer, ParallelLMHead):
            if prefix.rpartition(".")[2] not in self.kinds:
                return None
            return KunlunHeadMethod(KunlunAWQLinearMethod(self), prefix)
        if not isinstance(layer, (LinearBase, ExpertLayer)):
            return None
        names = part_names(prefix, self.packed_modules_mapping)
        skipped = {is_left_out(name, self.modules_to_not_convert) for name in names}
        if len(skipped) > 1:
            return KunlunPartsLinearMethod(self, names)
        if skipped.pop():
            if isinstance(layer, ExpertLayer):
                return UnquantizedFusedMoEMethod(layer.moe_config)
            return UnquantizedLinearMethod()
        if isinstance(layer, ExpertLayer):
            return KunlunAWQMoEMethod(layer.moe_config, self.group_size)
        return KunlunAWQLinearMethod(self)
