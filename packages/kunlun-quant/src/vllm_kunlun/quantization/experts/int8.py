# SPDX-License-Identifier: Apache-2.0
"""Running quantised experts: what the methods of every checkpoint format have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from vllm_kunlun.ops.torch_ops import moe
from vllm_kunlun.ops.vllm_compat.expert_activation import name_of

__all__ = ["Int8Experts"]


class Int8Experts:
    """Part of a vLLM ``FusedMoEMethodBase``: runs int8 experts, or the model's dtype without max.

    vLLM chooses the experts (softmax, sigmoid, groups, bias, a function of the model); this runs
    them: :func:`vllm_kunlun.ops.torch_ops.moe.run_experts`. It reads ``w13_weight``, ``w2_weight``
    and, where the layer has them, ``int8_w13_max``, ``int8_w2_max``, ``w13_bias``, ``w2_bias``.
    """

    def maybe_make_prepare_finalize(self, routing_tables: object = None) -> None:
        # vLLM's modular kernels exchange tokens between ranks by CUDA libraries; here each rank
        # runs its own experts on all tokens and the results are summed.
        return None

    def get_fused_moe_quant_config(self, layer: torch.nn.Module) -> None:
        return None  # of vLLM's own kernels

    @property
    def is_monolithic(self) -> bool:
        """No: the router is vLLM's, and chooses before the experts are called."""
        return False

    def apply(
        self,
        layer: torch.nn.Module,
        x: Tensor,
        topk_weights: Tensor,
        topk_ids: Tensor,
        *_shared: object,
        **_more: object,
    ) -> Tensor:
        """The experts' answer. Shapes: x ``[M, N]``, topk_weights and topk_ids ``[M, k]``.

        What 0.33 says of shared experts is for kernels that run them, too; vLLM has run them.
        """
        return moe.run_experts(
            x,
            layer.w13_weight,
            layer.w2_weight,
            topk_weights,
            topk_ids,
            activation=name_of(layer),
            w13_bias=getattr(layer, "w13_bias", None),
            w2_bias=getattr(layer, "w2_bias", None),
            w13_max=getattr(layer, "int8_w13_max", None),
            w2_max=getattr(layer, "int8_w2_max", None),
            weight_on_input=layer.apply_router_weight_on_input,
            expert_map=layer.expert_map,
        )
