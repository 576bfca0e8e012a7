# SPDX-License-Identifier: Apache-2.0
"""Experts with packed weights, as vLLM's layer loads and runs them; formats subclass this."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from vllm.model_executor.layers.fused_moe import FusedMoeWeightScaleSupported
from vllm.model_executor.layers.fused_moe.config import FusedMoEQuantConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase

from vllm_kunlun.ops.vllm_compat.expert_activation import name_of
from vllm_kunlun.platforms.errors import KunlunError, UnsupportedError
from vllm_kunlun.platforms.loading import forms
from vllm_kunlun.platforms.vllm_compat.expert_layer import ExpertLayer
from vllm_kunlun.quantization.checkpoint.loading import add_parameter
from vllm_kunlun.quantization.experts import packed_product
from vllm_kunlun.quantization.experts.packed_product import PackedExperts

__all__ = ["PackedMoEMethod", "Tensors"]

Tensors = dict[str, tuple[tuple[int, ...], torch.dtype | None]]
"""Name -> (shape for one expert, dtype or None for the model's)."""


class PackedMoEMethod(FusedMoEMethodBase):
    """Loads one format; a subclass names its tensors and reads them."""

    bits: int
    group_size: int
    optional: tuple[str, ...] = ()
    """Those of :meth:`tensors` that :meth:`read` has no use for."""
    transposed = True
    """Whether the checkpoint's matrices are ``[in, out]``."""

    def tensors(self, inputs: int, outputs: int) -> Tensors:
        """What the checkpoint holds for one of an expert's matrices, ``[inputs, outputs]``."""
        raise NotImplementedError

    def read(self, tensors: dict[str, torch.Tensor], *, split: bool) -> PackedExperts:
        """From the loaded tensors; ``split``: the inputs are shared out among ranks.

        Shapes: ``[E, ..]`` of what :meth:`tensors` names.
        Raises: KunlunError: what :mod:`~vllm_kunlun.quantization.experts.packed_product` refuses.
        """
        raise NotImplementedError

    def maybe_make_prepare_finalize(self, routing_tables: object = None) -> None:
        # Each rank runs its own experts on all tokens and the results are summed.
        return None

    def get_fused_moe_quant_config(self, layer: torch.nn.Module) -> FusedMoEQuantConfig | None:
        return None

    def groups(self, inputs: int) -> int:
        """Groups of a matrix with ``inputs`` rows on this rank.

        Raises: UnsupportedError: they do not divide into groups.
        """
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
        """A parameter for each of :meth:`tensors`, of w13 ``[K, 2 I]`` and w2 ``[I, K]``.

        Raises: UnsupportedError: a bias, or an inner width on this rank that fills no words.
        """
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
                add_parameter(layer, f"{part}_{name}", data, attributes)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """What was loaded becomes the fields of :class:`PackedExperts`; errors name the layer."""
        names = [f"{part}_{name}" for part in ("w13", "w2") for name in self.names]
        if not forms.remember(
            layer,
            names,
            self.process_weights_after_loading,
            optional=[f"{part}_{name}" for part in ("w13", "w2") for name in self.optional],
            shared=[name for name in names if name.endswith(("g_idx", "weight_shape"))],
        ):
            return
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
        layer: ExpertLayer,
        x: torch.Tensor,
        topk_weights: torch.Tensor,
        topk_ids: torch.Tensor,
        *_shared: object,
        **_more: object,
    ) -> torch.Tensor:
        """See :func:`vllm_kunlun.quantization.experts.packed_product.run_experts`.

        Shapes: x ``[M, K]``, topk_weights and topk_ids ``[M, k]``; the result is as ``x``.
        """
        w13, w2 = (_experts(layer, part) for part in ("w13", "w2"))
        return packed_product.run_experts(
            x,
            w13,
            w2,
            topk_weights,
            topk_ids,
            activation=name_of(layer),
            weight_on_input=layer.apply_router_weight_on_input,
            expert_map=layer.expert_map,
        )


def _experts(layer: torch.nn.Module, part: str) -> PackedExperts:
    names = [field.name for field in fields(PackedExperts)]
    return PackedExperts(**{name: getattr(layer, f"{part}_{name}") for name in names})
