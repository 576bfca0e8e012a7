# SPDX-License-Identifier: Apache-2.0
"""A fused layer whose parts are quantised in different ways: each part is a layer of its own.

vLLM fuses q, k and v, and gate and up. A checkpoint that keeps one of them in floats, or in other
bits, has no one weight for the fused layer; its products are computed one by one and joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.custom_op import CustomOp
from vllm.model_executor.layers.linear import (
    LinearBase,
    LinearMethodBase,
    MergedColumnParallelLinear,
    QKVParallelLinear,
)
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.parameter import BlockQuantScaleParameter, PerTensorScaleParameter
from vllm.model_executor.utils import set_weight_attrs

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError

__all__ = ["KunlunPartsLinearMethod", "part_names"]


def part_names(prefix: str, fused: Mapping[str, Sequence[str]]) -> list[str]:
    """The checkpoint's names of the layers that ``prefix`` is made of: itself, if it is not fused.

    Args:
        fused: a model's ``packed_modules_mapping``.
    """
    stem, dot, kind = prefix.rpartition(".")
    return [f"{stem}{dot}{part}" for part in fused.get(kind, [kind])]


class KunlunPartsLinearMethod(LinearMethodBase):
    """``x W + bias`` with ``W`` of several parts beside each other, each by its own method.

    Args:
        config: says how each part is quantised, by its name.
        names: of the parts, in their order.
    """

    def __init__(self, config: QuantizationConfig, names: Sequence[str]) -> None:
        self.config, self.names = config, list(names)

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
        """Give ``layer`` its parts, and a parameter of each name that sends what is loaded there.

        Raises:
            UnsupportedError: naming the layer; it is not fused of these parts.
        """
        if isinstance(layer, QKVParallelLinear):
            shards: list[Any] = ["q", "k", "v"]
        else:
            shards = list(range(len(output_partition_sizes)))
        known = isinstance(layer, (QKVParallelLinear, MergedColumnParallelLinear))
        if not known or len(shards) != len(self.names):
            raise UnsupportedError(
                f"{layer.prefix}: {', '.join(self.names)} are quantised in different ways, and are "
                "one layer here that cannot be computed in parts. Quantise them alike, or leave "
                "all of them out."
            )
        layer.parts = torch.nn.ModuleList()
        for name, shard, rows in zip(self.names, shards, output_partition_sizes, strict=True):
            part = _Part(_Linear(input_size, rows, quant_config=self.config, prefix=name))
            part.quant_method.create_weights(
                part, input_size_per_partition, [rows], input_size, rows * layer.tp_size,
                params_dtype, weight_loader=_loader(layer, shard, rows),
            )  # fmt: skip
            layer.parts.append(part)
        for name in {name: None for part in layer.parts for name, _ in part.named_parameters()}:
            nothing = torch.nn.Parameter(torch.empty(0, dtype=params_dtype), requires_grad=False)
            layer.register_parameter(name, nothing)
            set_weight_attrs(nothing, {"weight_loader": self._router(layer, name, shards)})

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Nothing: vLLM comes to the parts, too."""

    def apply(self, layer: torch.nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x W + bias``. Shapes: x ``[.., K]``, bias ``[N]``."""
        out = torch.cat([part.quant_method.apply(part, x) for part in layer.parts], dim=-1)
        return out if bias is None else out + bias

    def _router(self, layer: torch.nn.Module, name: str, shards: list[Any]) -> Callable[..., Any]:
        def load(_: torch.nn.Parameter, loaded: Tensor, shard: Any = None) -> None:
            if shard not in shards:
                raise CheckpointError(
                    f"{layer.prefix} is one tensor in the checkpoint, and config.json says that "
                    f"{', '.join(self.names)} are quantised in different ways. Use the config.json "
                    "that belongs to the checkpoint."
                )
            place = shards.index(shard)
            part = layer.parts[place]
            if name not in part._parameters:
                raise CheckpointError(
                    f"config.json says that {self.names[place]} is quantised in another way, "
                    f"without a {name}. Correct quantization_config in config.json."
                )
            getattr(part, name).weight_loader(getattr(part, name), loaded)

        return load


@CustomOp.register("kunlun_part_linear")
class _Linear(LinearBase):
    """What a configuration is asked about, as one of vLLM's linear layers."""


class _Part(torch.nn.Module):
    """A part, which is none of vLLM's linear layers: adapters are for the whole of it alone."""

    quant_method: LinearMethodBase

    def __init__(self, linear: LinearBase) -> None:
        super().__init__()
        self.prefix, self.skip_bias_add = linear.prefix, False
        self.quant_method = linear.quant_method
        self.scheme = getattr(linear, "scheme", None)


def _loader(layer: torch.nn.Module, shard: Any, rows: int) -> Callable[..., Any]:
    """Loads this rank's share of one part into a parameter that is of that part alone."""

    def load(param: Any, loaded: Tensor) -> None:
        if isinstance(param, PerTensorScaleParameter):
            param.data.copy_(loaded.reshape(param.shape))
            return
        size = param.shape[0] if isinstance(param, BlockQuantScaleParameter) else rows
        where = {"shard_id": shard, "shard_offset": 0, "shard_size": size, "tp_rank": layer.tp_rank}
        if isinstance(layer, QKVParallelLinear):
            param.load_qkv_weight(loaded, num_heads=layer.num_kv_head_replicas, **where)
        else:
            param.load_merged_column_weight(loaded, **where)

    return load
