# SPDX-License-Identifier: Apache-2.0
"""Dense layers of AWQ checkpoints: loaded as vLLM does, run by the vendor's AWQ functions."""

from __future__ import annotations

from typing import Any

import torch
from vllm.logger import init_logger

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.checkpoint.loading import layer_name
from vllm_kunlun.quantization.layouts import awq
from vllm_kunlun.quantization.torch_ops.packed import awq_linear
from vllm_kunlun.quantization.vllm_compat.awq import AWQLinearMethod

__all__ = ["KunlunAWQLinearMethod"]

logger = init_logger(__name__)


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
        """Put the words into the card's order.

        Raises: CheckpointError: naming the layer; a scale is not finite.
        """
        names = ("qweight", "qzeros", "scales")
        if not forms.remember(layer, names, self.process_weights_after_loading):
            return
        try:
            weights = awq.convert(layer.qweight.data, layer.qzeros.data, layer.scales.data)
        except CheckpointError as error:
            raise CheckpointError(f"{layer_name(layer)}: {error}") from error
        layer.layout = weights.layout
        for name in names:
            value = getattr(weights, name)
            setattr(layer, name, torch.nn.Parameter(value, requires_grad=False))

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``x W + bias``; see :func:`vllm_kunlun.quantization.torch_ops.packed.awq_linear`.

        Shapes: x ``[.., K]``, bias ``[N]``.
        """
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
