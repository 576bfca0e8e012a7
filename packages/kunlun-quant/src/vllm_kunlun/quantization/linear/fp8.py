# SPDX-License-Identifier: Apache-2.0
"""fp8 weights, converted when they are loaded.

The card has no fp8. By default a weight becomes int8 with one scale per output channel, in the
memory that the fp8 bytes occupy, and activations are quantised per token. With
``VLLM_KUNLUN_FP8_TO=float`` it becomes the model's dtype, at twice the size.

Latent attention's ``kv_b_proj`` becomes the model's dtype in any case. Its decode multiplies by the
halves of the weight in that dtype, which then are views of it: a second, int8 copy would take more
memory, and would give prompts other values than decode has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.linear import LinearMethodBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.compressed_tensors.schemes import (
    CompressedTensorsScheme,
)
from vllm.model_executor.parameter import (
    BlockQuantScaleParameter,
    ChannelQuantScaleParameter,
    ModelWeightParameter,
    PerTensorScaleParameter,
)
from vllm.model_executor.utils import replace_parameter

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.quantization.checkpoint.loading import (
    check_numbers,
    check_scale,
    checked_loader,
    derive,
    layer_name,
    mark_unloaded,
)
from vllm_kunlun.quantization.layouts.fp8 import E4M3_NAN, Fp8Layout, to_float, to_int8
from vllm_kunlun.quantization.linear.int8 import bias_in_float32, per_channel
from vllm_kunlun.quantization.torch_ops import int8

__all__ = ["KunlunFp8LinearMethod", "KunlunFp8Scheme"]


class KunlunFp8Scheme(CompressedTensorsScheme):
    """A linear layer of fp8 weights, converted after loading; in float it is a plain one."""

    def __init__(self, layout: Fp8Layout) -> None:
        self.layout = layout
        self.to_int8 = envs.VLLM_KUNLUN_FP8_TO == "int8"

    @classmethod
    def get_min_capability(cls) -> int:
        return 0

    def create_weights(
        self,
        layer: torch.nn.Module,
        output_partition_sizes: list[int],
        input_size_per_partition: int,
        params_dtype: torch.dtype,
        weight_loader: Callable[..., Any],
        **kwargs: Any,
    ) -> None:
        """A weight int8 ``[N, K]`` for the bits of fp8, and scales as the layout says.

        Raises: UnsupportedError: blocks that do not divide a matrix or a rank's part of it.
        """
        layout = self.layout
        self.to_int8 &= not layer_name(layer).endswith("kv_b_proj")
        rows, width = sum(output_partition_sizes), input_size_per_partition
        loader = checked_loader(layer, weight_loader, None, torch.float8_e4m3fn)
        layer.logical_widths = output_partition_sizes
        layer.input_size_per_partition = width
        layer.output_size_per_partition = rows
        layer.orig_dtype = params_dtype
        layer.weight_block_size = None if layout.block is None else list(layout.block)
        layer.weight = ModelWeightParameter(
            data=torch.empty((rows, width), dtype=torch.int8),
            input_dim=1,
            output_dim=0,
            weight_loader=loader,
        )
        shards = len(output_partition_sizes)
        scale: torch.nn.Parameter
        if layout.strategy == "channel":
            data = torch.empty((rows, 1), dtype=torch.float32)
            scale = ChannelQuantScaleParameter(data=data, output_dim=0, weight_loader=loader)
        elif layout.strategy == "tensor":
            data = torch.empty(shards, dtype=torch.float32)
            scale = PerTensorScaleParameter(data=data, weight_loader=loader)
        else:
            assert layout.block is not None
            tall, wide = layout.block
            _check_blocks(
                layer,
                layout.block,
                output_partition_sizes,
                rows < kwargs["output_size"],
                width if width < kwargs["input_size"] else None,
            )
            data = torch.empty((-(-rows // tall), -(-width // wide)), dtype=torch.float32)
            scale = BlockQuantScaleParameter(
                data=data, input_dim=1, output_dim=0, weight_loader=loader
            )
        setattr(layer, layout.scale_name, scale)
        if layout.static_input:
            data = torch.empty(shards, dtype=torch.float32)
            layer.input_scale = PerTensorScaleParameter(data=data, weight_loader=loader)
        mark_unloaded(layer)
        layer.weight.data.fill_(E4M3_NAN)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Convert once. Raises: CheckpointError: a scale or a weight is missing or no number."""
        if getattr(layer, "derived", False):
            return
        forms.lose(layer, layer_name(layer))
        layout = self.layout
        check_scale(layer, layout.scale_name)
        bits, scale = layer.weight.data, getattr(layer, layout.scale_name).data
        if layout.strategy != "block":
            scale = per_channel(scale, layer.logical_widths)
        if self.to_int8:
            largest = to_int8(bits, scale, layout.block)
            check_numbers(layer, "weight", largest)
            derive(layer, "int8_weight_max", largest)
            bias_in_float32(layer)
        else:
            weight = to_float(bits, scale, layout.block, layer.orig_dtype)
            check_numbers(layer, "weight", weight)
            replace_parameter(layer, "weight", weight)
            layer.quant_method = UnquantizedLinearMethod()
            layer.derived = True
        delattr(layer, layout.scale_name)
        layer.input_scale = None

    def apply_weights(
        self, layer: torch.nn.Module, x: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """``x W^T + bias``. Shapes: x ``[.., K]``, bias ``[N]``."""
        if bias is not None and bias.dtype != torch.float32:
            bias = bias.float()
        return int8.int8_linear(x, layer.weight, layer.int8_weight_max, None, bias)


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


def _check_blocks(
    layer: torch.nn.Module,
    block: tuple[int, int],
    heights: list[int],
    is_last_cut: bool,
    cut_width: int | None,
) -> None:
    """A block's scale belongs to one matrix and one rank; only the last of the rows may be short.

    Raises:
        UnsupportedError: naming the layer and its size.
    """
    tall, wide = block
    uneven = [rows for rows in (heights if is_last_cut else heights[:-1]) if rows % tall]
    if cut_width is not None and cut_width % wide:
        uneven.append(cut_width)
    if uneven:
        raise UnsupportedError(
            f"{layer_name(layer)}: {uneven[0]} is not divisible by the checkpoint's blocks of "
            f"{tall} x {wide}. Use a smaller --tensor-parallel-size, if this rank holds a part of "
            "the layer; else the checkpoint's matrices cannot be fused."
        )
