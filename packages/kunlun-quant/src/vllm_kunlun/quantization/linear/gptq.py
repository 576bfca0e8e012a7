# SPDX-License-Identifier: Apache-2.0
"""Dense layers of GPTQ checkpoints: loaded as vLLM does, run by the vendor's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from vllm.model_executor.layers.quantization.gptq import GPTQLinearMethod
from vllm.model_executor.parameter import RowvLLMParameter

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.checkpoint.loading import layer_name
from vllm_kunlun.quantization.layouts import gptq
from vllm_kunlun.quantization.linear.packed import apply_weights, set_weights

__all__ = ["KunlunGPTQLinearMethod"]


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
        layer.g_idx = RowvLLMParameter(
            data=layer.g_idx.data,
            input_dim=0,
            weight_loader=_one_order(extra_weight_attrs["weight_loader"]),
        )

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """True zeros and the order of the inputs, then :func:`set_weights`.

        Raises: CheckpointError: naming the layer; g_idx is not in order where it must be, or as
            :func:`set_weights`.
        """
        config = self.quant_config
        if hasattr(layer, "g_idx"):  # what is loaded later may have another one
            layer.g_idx.__dict__.pop("_first", None)
        names = ("qweight", "qzeros", "scales", "g_idx")
        optional = () if config.desc_act and config.group_size != -1 else ("g_idx",)
        if not forms.remember(
            layer,
            names,
            self.process_weights_after_loading,
            optional=optional,
            shared=("g_idx",),
        ):
            return
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
        bits, offset = config.weight_bits, gptq.ZERO_OFFSETS[config.checkpoint_format]
        zeros = gptq.unpack_zeros(layer.qzeros.data, bits, offset)
        set_weights(layer, layer.qweight.data, zeros, layer.scales.data, bits, g_idx)
        del layer.g_idx

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x W + bias``. Shapes: x ``[.., K]``, bias ``[N]``."""
        return apply_weights(layer, x, bias)


def _one_order(loader: Callable[..., Any]) -> Callable[..., Any]:
    """``loader`` for ``g_idx`` of a fused layer, of which every part must bring the same one."""

    def load(param: torch.nn.Parameter, loaded: torch.Tensor, *shard: Any) -> None:
        loader(param, loaded, *shard)
        if loaded.is_meta:  # a look at the shapes alone
            return
        first = param.__dict__.setdefault("_first", loaded.clone())
        if not torch.equal(first, loaded):
            raise CheckpointError(
                "the parts of a fused layer (q, k, v, or gate and up) were quantised with "
                "different g_idx. Quantise them together, or with desc_act=False."
            )

    return load
