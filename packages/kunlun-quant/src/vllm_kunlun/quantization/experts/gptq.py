# SPDX-License-Identifier: Apache-2.0
"""Experts of GPTQ checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig

from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.quantization.experts import packed_product
from vllm_kunlun.quantization.experts.packed import PackedMoEMethod, Tensors
from vllm_kunlun.quantization.experts.packed_product import PackedExperts
from vllm_kunlun.quantization.layouts import gptq

__all__ = ["KunlunGPTQMoEMethod"]


class KunlunGPTQMoEMethod(PackedMoEMethod):
    """GPTQ: packed along the input."""

    def __init__(
        self, moe: FusedMoEConfig, bits: int, group_size: int, zero_offset: int, desc_act: bool
    ) -> None:
        super().__init__(moe)
        self.bits, self.group_size, self.zero_offset = bits, group_size, zero_offset
        self.desc_act = desc_act and group_size != -1
        self.optional = () if self.desc_act else ("g_idx",)
        self._first: dict[int, torch.Tensor] = {}

    def tensors(self, inputs: int, outputs: int) -> Tensors:
        """int32 words along the inputs, zeros along the outputs, the group of each input."""
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
            layer.w13_g_idx.weight_loader = _same_order(layer.w13_g_idx.weight_loader, self._first)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        self._first.clear()  # other weights may have another order
        super().process_weights_after_loading(layer)

    def read(self, tensors: dict[str, torch.Tensor], *, split: bool) -> PackedExperts:
        """``(q - (z + zero_offset)) s``.

        Raises: UnsupportedError: inputs in the order of their activations, shared out among ranks.
        """
        if self.desc_act and split:
            raise UnsupportedError(
                "experts quantised with desc_act=True cannot be split over tensor parallel ranks: "
                "start with --enable-expert-parallel, or quantise with desc_act=False."
            )
        zeros = gptq.unpack_zeros(tensors["qzeros"], self.bits, self.zero_offset)
        g_idx = tensors["g_idx"] if self.desc_act else None
        return packed_product.from_gptq(
            tensors["qweight"], zeros, tensors["scales"], self.bits, g_idx
        )


def _same_order(loader: Callable[..., Any], first: dict[int, torch.Tensor]) -> Callable[..., Any]:
    """``loader`` for the one ``g_idx`` that gate and up projection of an expert share.

    ``first``: expert -> what came for one of the two.
    """

    def load(
        param: torch.nn.Parameter, loaded: torch.Tensor, name: str, shard_id: str,
        expert_id: int, **keywords: Any,
    ) -> Any:  # fmt: skip
        # On the meta device: a look at the shapes alone.
        if not loaded.is_meta and not torch.equal(
            first.setdefault(expert_id, loaded.clone()), loaded
        ):
            raise CheckpointError(
                f"{name}: gate and up projection of expert {expert_id} were quantised with "
                "different g_idx. Quantise them together, or with desc_act=False."
            )
        return loader(param, loaded, name, shard_id=shard_id, expert_id=expert_id, **keywords)

    return load
