# SPDX-License-Identifier: Apache-2.0
"""vLLM's methods for experts with packed weights: what is loaded from which format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from vllm.model_executor.layers.fused_moe import FusedMoE
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig, FusedMoEQuantConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.layer import FusedMoeWeightScaleSupported
from vllm.model_executor.utils import set_weight_attrs

from vllm_kunlun.platforms.errors import CheckpointError, KunlunError, UnsupportedError
from vllm_kunlun.quantization.experts import packed_product
from vllm_kunlun.quantization.experts.packed_product import PackedExperts
from vllm_kunlun.quantization.layouts import gptq

__all__ = [
    "KunlunAWQMoEMethod",
    "KunlunCompressedTensorsWNA16MoEMethod",
    "KunlunGPTQMoEMethod",
    "PackedMoEMethod",
]


class PackedMoEMethod(FusedMoEMethodBase):
    """Loads one format; a subclass names its tensors and reads them."""

    bits: int
    group_size: int
    transposed = True
    """Whether the checkpoint's matrices are ``[in, out]``."""

    def tensors(
        self, inputs: int, outputs: int
    ) -> dict[str, tuple[tuple[int, ...], torch.dtype | None]]:
        """Name -> (shape for one expert, dtype or None for the model's)."""
        raise NotImplementedError

    def read(self, tensors: dict[str, torch.Tensor], *, split: bool) -> PackedExperts:
        """From the loaded tensors; ``split``: the inputs are shared out among ranks."""
        raise NotImplementedError

    def maybe_make_prepare_finalize(self, routing_tables: object = None) -> None:
        # Each rank runs its own experts on all tokens and the results are summed.
        return None

    def get_fused_moe_quant_config(self, layer: torch.nn.Module) -> FusedMoEQuantConfig | None:
        return None

    def groups(self, inputs: int) -> int:
        if self.group_size == -1:
            return 1
        if inputs % self.group_size:
            raise UnsupportedError(
                f"experts of {inputs} inputs on this rank do not divide into groups of "
                f"{self.group_size}: use a smaller --tensor-parallel-size or "
                "--enable-expert-parallel."
            )
        return inputs // self.group_size

    def create_weights(
        self,
        layer: torch.nn.Module,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        if self.moe.has_bias:
            raise UnsupportedError("experts with packed weights and a bias are not implemented.")
        inner = intermediate_size_per_partition
        if inner % 8:
            raise UnsupportedError(
                f"experts of {inner} inner units on this rank do not fill words of 8: use a "
                "smaller --tensor-parallel-size or --enable-expert-parallel."
            )
        self.split = self.moe.moe_parallel_config.tp_size > 1
        strategy = FusedMoeWeightScaleSupported
        attributes = {
            **extra_weight_attrs,
            "is_transposed": self.transposed,
            "quant_method": (strategy.CHANNEL if self.group_size == -1 else strategy.GROUP).value,
        }
        sizes = {
            "w13": (hidden_size, 2 * inner),
            "w2": (inner, hidden_size),
        }
        self.names = tuple(self.tensors(*sizes["w13"]))
        for part, size in sizes.items():
            for name, (shape, dtype) in self.tensors(*size).items():
                data = torch.empty(num_experts, *shape, dtype=dtype or params_dtype)
                parameter = torch.nn.Parameter(data, requires_grad=False)
                layer.register_parameter(f"{part}_{name}", parameter)
                set_weight_attrs(parameter, attributes)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        for part, split in (("w13", False), ("w2", self.split)):
            loaded = {name: getattr(layer, f"{part}_{name}").data for name in self.names}
            try:
                experts = self.read(loaded, split=split)
            except KunlunError as error:
                raise type(error)(f"{layer.layer_name}: {error}") from error
            for name in self.names:
                delattr(layer, f"{part}_{name}")
            for field in fields(experts):
                value = getattr(experts, field.name)
                parameter = (
                    None if value is None else torch.nn.Parameter(value, requires_grad=False)
                )
                layer.register_parameter(f"{part}_{field.name}", parameter)

    def apply(
        self,
        layer: FusedMoE,
        x: torch.Tensor,
        topk_weights: torch.Tensor,
        topk_ids: torch.Tensor,
    ) -> torch.Tensor:
        """See :func:`vllm_kunlun.quantization.experts.packed_product.run_experts`."""
        w13, w2 = (_experts(layer, part) for part in ("w13", "w2"))
        return packed_product.run_experts(
            x,
            w13,
            w2,
            topk_weights,
            topk_ids,
            activation=layer.activation,
            weight_on_input=layer.apply_router_weight_on_input,
            expert_map=layer.expert_map,
        )


def _experts(layer: torch.nn.Module, part: str) -> PackedExperts:
    names = [field.name for field in fields(PackedExperts)]
    return PackedExperts(**{name: getattr(layer, f"{part}_{name}") for name in names})


class KunlunAWQMoEMethod(PackedMoEMethod):
    """AWQ: packed along the output."""

    def __init__(self, moe: FusedMoEConfig, group_size: int) -> None:
        super().__init__(moe)
        self.bits, self.group_size = 4, group_size

    def tensors(
        self, inputs: int, outputs: int
    ) -> dict[str, tuple[tuple[int, ...], torch.dtype | None]]:
        groups = self.groups(inputs)
        return {
            "qweight": ((inputs, outputs // 8), torch.int32),
            "qzeros": ((groups, outputs // 8), torch.int32),
            "scales": ((groups, outputs), torch.float16),
        }

    def read(self, tensors: dict[str, torch.Tensor], *, split: bool) -> PackedExperts:
        return packed_product.from_awq(**tensors)


def _same_order(loader: Callable[..., Any]) -> Callable[..., Any]:
    """``loader`` for the one ``g_idx`` that gate and up projection of an expert share."""
    first: dict[int, torch.Tensor] = {}

    def load(
        param: torch.nn.Parameter, loaded: torch.Tensor, name: str, shard_id: str,
        expert_id: int, **keywords: Any,
    ) -> Any:  # fmt: skip
        if not torch.equal(first.setdefault(expert_id, loaded.clone()), loaded):
            raise CheckpointError(
                f"{name}: gate and up projection of expert {expert_id} were quantised with "
                "different g_idx. Quantise them together, or with desc_act=False."
            )
        return loader(param, loaded, name, shard_id=shard_id, expert_id=expert_id, **keywords)

    return load


class KunlunGPTQMoEMethod(PackedMoEMethod):
    """GPTQ: packed along the input."""

    def __init__(
        self, moe: FusedMoEConfig, bits: int, group_size: int, zero_offset: int, desc_act: bool
    ) -> None:
        super().__init__(moe)
        self.bits, self.group_size, self.zero_offset = bits, group_size, zero_offset
        self.desc_act = desc_act and group_size != -1

    def tensors(
        self, inputs: int, outputs: int
    ) -> dict[str, tuple[tuple[int, ...], torch.dtype | None]]:
        groups = self.groups(inputs)
        return {
            "qweight": ((inputs * self.bits // 32, outputs), torch.int32),
            "qzeros": ((groups, outputs * self.bits // 32), torch.int32),
            "scales": ((groups, outputs), None),
            "g_idx": ((inputs,), torch.int32),
        }

    def create_weights(self, layer: torch.nn.Module, *args: Any, **keywords: Any) -> None:
        super().create_weights(layer, *args, **keywords)
        if self.desc_act:
            layer.w13_g_idx.weight_loader = _same_order(layer.w13_g_idx.weight_loader)

    def read(self, tensors: dict[str, torch.Tensor], *, split: bool) -> PackedExperts:
        if self.desc_act and split:
            raise UnsupportedError(
                "experts quantised with desc_act=True cannot be split over tensor parallel ranks: "
                "start with --enable-expert-parallel, or quantise with desc_act=False."
            )
        zeros = gptq.unpack_zeros(tensors["qzeros"], self.bits) + self.zero_offset
        g_idx = tensors["g_idx"] if self.desc_act else None
        return packed_product.from_gptq(
            tensors["qweight"], zeros, tensors["scales"], self.bits, g_idx
        )


class KunlunCompressedTensorsWNA16MoEMethod(PackedMoEMethod):
    """compressed-tensors: packed along the input, matrices ``[out, in]``."""

    transposed = False

    def __init__(self, moe: FusedMoEConfig, bits: int, group_size: int, symmetric: bool) -> None:
        super().__init__(moe)
        self.bits, self.group_size, self.symmetric = bits, group_size, symmetric

    def tensors(
        self, inputs: int, outputs: int
    ) -> dict[str, tuple[tuple[int, ...], torch.dtype | None]]:
        groups = self.groups(inputs)
        found: dict[str, tuple[tuple[int, ...], torch.dtype | None]] = {
            "weight_packed": ((outputs, inputs * self.bits // 32), torch.int32),
            "weight_scale": ((outputs, groups), None),
            "weight_shape": ((2,), torch.int64),
        }
        if not self.symmetric:
            found["weight_zero_point"] = ((outputs * self.bits // 32, groups), torch.int32)
        return found

    def read(self, tensors: dict[str, torch.Tensor], *, split: bool) -> PackedExperts:
        scales = tensors["weight_scale"].transpose(1, 2).contiguous()
        if self.symmetric:
            zeros = torch.full_like(scales, 1 << (self.bits - 1), dtype=torch.int32)
        else:
            words = tensors["weight_zero_point"].transpose(1, 2).contiguous()
            zeros = gptq.unpack_zeros(words, self.bits)
        qweight = tensors["weight_packed"].transpose(1, 2).contiguous()
        return packed_product.from_gptq(qweight, zeros, scales, self.bits, None)
