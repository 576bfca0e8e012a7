# SPDX-License-Identifier: Apache-2.0
"""The method ``compressed-tensors``: which scheme a layer gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from vllm.logger import init_logger
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
    CompressedTensorsLinearMethod,
)
from vllm.model_executor.layers.quantization.compressed_tensors.schemes import (
    CompressedTensorsScheme,
    CompressedTensorsW8A8Int8,
    CompressedTensorsWNA16,
)
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.checkpoint import packed
from vllm_kunlun.quantization.formats.compressed_experts import expert_method
from vllm_kunlun.quantization.formats.compressed_fp8 import fp8_layout
from vllm_kunlun.quantization.linear.compressed_int8 import KunlunW8A8Int8
from vllm_kunlun.quantization.linear.fp8 import KunlunFp8Scheme
from vllm_kunlun.quantization.linear.head import KunlunHeadMethod
from vllm_kunlun.quantization.linear.parts import KunlunPartsLinearMethod, part_names

__all__ = ["SCHEMES", "KunlunCompressedTensorsConfig"]

logger = init_logger("vllm.kunlun.quantization")

SCHEMES: dict[
    type[CompressedTensorsScheme], Callable[[CompressedTensorsScheme], CompressedTensorsScheme]
] = {
    CompressedTensorsW8A8Int8: lambda scheme: KunlunW8A8Int8(
        scheme.strategy, scheme.is_static_input_scheme, scheme.input_symmetric
    ),
    CompressedTensorsWNA16: lambda scheme: scheme,  # our kernel is in vLLM's registry
}
"""vLLM's scheme for a linear layer -> ours. What is not here has no arithmetic on the card."""


_LINEAR = torch.nn.Linear(1, 1, device="meta")
"""What the output projection is in the model that was quantised; targets name it so."""


class KunlunCompressedTensorsConfig(CompressedTensorsConfig):
    """vLLM's reading of the checkpoint's configuration, our choice of arithmetic."""

    kinds: frozenset[str] = frozenset()
    """Last parts of the names of the checkpoint's quantised layers."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CompressedTensorsConfig:
        """As vLLM's, with the KV cache in the model's dtype.

        Raises: UnsupportedError: the checkpoint has transforms.
        """
        if config.get("transform_config"):
            raise UnsupportedError(
                "quantization_config.transform_config: the rotations that this checkpoint wants "
                "at run time have no function on this device. Use one without transforms."
            )
        if config.get("kv_cache_scheme"):
            logger.warning(
                "quantization_config.kv_cache_scheme asks for a KV cache in fp8, which the card "
                "lacks: the cache is kept in the model's dtype."
            )
            config = {**config, "kv_cache_scheme": None}
        return super().from_config(config)

    def get_scheme(
        self, layer: torch.nn.Module, layer_name: str | None = None
    ) -> CompressedTensorsScheme | None:
        """A dense layer's scheme, or None where the checkpoint leaves the layer out.

        Raises: UnsupportedError: a scheme without arithmetic on the card, by layer and numbers.
        """
        described = self.get_scheme_dict(layer, layer_name)
        if described is not None and not getattr(self, "sparsity_scheme_map", None):
            layout = fp8_layout(described["weights"], described["input_activations"])
            if layout is not None:
                return KunlunFp8Scheme(layout)
        try:
            scheme = super().get_scheme(layer, layer_name)
        except (NotImplementedError, AssertionError, ValueError) as error:
            raise _refusal(layer_name, described) from error
        if scheme is None:
            return None
        if type(scheme) not in SCHEMES:
            raise _refusal(layer_name, described)
        return SCHEMES[type(scheme)](scheme)

    def get_scheme_dict(
        self, layer: torch.nn.Module, layer_name: str | None = None
    ) -> dict[str, Any] | None:
        """As vLLM's, by the checkpoint's names; a layer that no target names is one of floats."""
        if layer_name is None or layer_name in self.ignore:
            return None
        for name in (part_names(layer_name, self.packed_modules_mapping)[0], layer_name):
            try:
                scheme = super().get_scheme_dict(layer, name)
            except ValueError:
                continue
            if scheme is not None:  # what 0.33 says of a name without a target
                return scheme
        return None

    def maybe_update_config(
        self, model_name: str, *arguments: Any, revision: str | None = None, **options: Any
    ) -> None:
        shapes = packed.shapes_of(model_name, revision)
        packed.check_compressed_tensors(shapes, self.target_scheme_map)
        self.kinds = packed.quantised_kinds(shapes)
        super().maybe_update_config(model_name, *arguments, **options)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """The method of experts by their scheme; of a dense layer by :meth:`get_scheme`."""
        if isinstance(layer, ExpertLayer):
            return expert_method(self, layer, prefix)
        if isinstance(layer, ParallelLMHead):
            return self._head_method(layer, prefix)
        if isinstance(layer, VocabParallelEmbedding):
            return None  # 0.33 looks rows of packed words up by a triton kernel
        if isinstance(layer, LinearBase):
            names = part_names(prefix, self.packed_modules_mapping)
            schemes = [self.get_scheme_dict(layer, name) for name in names]
            if prefix not in self.ignore and any(each != schemes[0] for each in schemes):
                return KunlunPartsLinearMethod(self, names)
        return super().get_quant_method(layer, prefix)

    def _head_method(self, layer: ParallelLMHead, prefix: str) -> QuantizeMethodBase | None:
        if prefix.rpartition(".")[2] not in self.kinds:
            return None
        layer.scheme = self.get_scheme(_LINEAR, prefix)
        if layer.scheme is None:
            return None
        return KunlunHeadMethod(CompressedTensorsLinearMethod(self), prefix)


def _refusal(layer_name: str | None, described: dict[str, Any] | None) -> UnsupportedError:
    scheme = described or {}
    return UnsupportedError(
        f"{layer_name}: compressed-tensors with weights {scheme.get('weights')}, activations "
        f"{scheme.get('input_activations')}, format {scheme.get('format')!r} has no arithmetic on "
        "this device. Use int8 (W8A8), 4 or 8-bit weights in pack-quantized, or fp8, which is "
        "converted."
    )
