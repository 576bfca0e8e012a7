# SPDX-License-Identifier: Apache-2.0
"""vLLM's mixture of experts on the vendor's functions: unquantised experts, grouped routing."""

from __future__ import annotations

import torch
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.router.grouped_topk_router import GroupedTopk
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import (
    UnquantizedFusedMoEMethod,
)

from vllm_kunlun.ops.torch_ops import moe
from vllm_kunlun.ops.vllm_compat.expert_activation import name_of
from vllm_kunlun.ops.vllm_modules.grouped_topk_router import grouped_topk

__all__ = ["KunlunGroupedTopk", "KunlunUnquantizedFusedMoEMethod"]


class KunlunUnquantizedFusedMoEMethod(UnquantizedFusedMoEMethod):
    """Experts in the model's dtype: :func:`vllm_kunlun.ops.torch_ops.moe.run_experts`."""

    def maybe_make_prepare_finalize(self, routing_tables: object = None) -> None:
        # vLLM's modular kernels exchange tokens between ranks by CUDA libraries; here each rank
        # runs its own experts on all tokens and the results are summed.
        return None

    @property
    def is_monolithic(self) -> bool:
        """No: the router is vLLM's, and chooses before the experts are called."""
        return False

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        FusedMoEMethodBase.process_weights_after_loading(self, layer)

    def forward_oot(
        self,
        layer: torch.nn.Module,
        x: torch.Tensor,
        topk_weights: torch.Tensor,
        topk_ids: torch.Tensor,
        *_shared: object,
        **_more: object,
    ) -> torch.Tensor:
        """Shapes: x ``[M, N]``, topk_weights and topk_ids ``[M, k]`` -> ``[M, N]``.

        What 0.33 says of shared experts is for kernels that run them, too; vLLM has run them.

        Raises: UnsupportedError: as :func:`vllm_kunlun.ops.torch_ops.moe.run_experts`.
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
            weight_on_input=layer.apply_router_weight_on_input,
            expert_map=layer.expert_map,
        )


class KunlunGroupedTopk(GroupedTopk):
    """The layer form of :func:`grouped_topk`."""

    def forward_oot(
        self,
        hidden_states: torch.Tensor,
        gating_output: torch.Tensor,
        e_score_correction_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes: gating_output ``[M, E]`` -> float32 weights and int32 ids ``[M, topk]``."""
        return grouped_topk(
            hidden_states,
            gating_output,
            self.topk,
            self.renormalize,
            self.num_expert_group,
            self.topk_group,
            self.scoring_func,
            self.routed_scaling_factor,
            e_score_correction_bias,
        )
