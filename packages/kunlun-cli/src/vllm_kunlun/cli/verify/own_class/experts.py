# SPDX-License-Identifier: Apache-2.0
"""A mixture of experts by its formulas: vLLM's own runs on kernels of another accelerator."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import (
    UnquantizedFusedMoEMethod,
)

from vllm_kunlun.ops.vllm_compat.expert_activation import name_of
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["FormulaExperts", "choose", "run"]


class FormulaExperts(UnquantizedFusedMoEMethod):
    """Chooses and runs the experts of a layer of vLLM's."""

    @property
    def is_monolithic(self) -> bool:
        """The layer leaves the choice of experts to this method."""
        return True

    def maybe_make_prepare_finalize(self, routing_tables: Any = None) -> None:
        return None

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        FusedMoEMethodBase.process_weights_after_loading(self, layer)

    def apply_monolithic(
        self, layer: Any, x: Tensor, router_logits: Tensor, input_ids: Tensor | None = None
    ) -> Tensor:
        """Shapes: x ``[M, N]``, router_logits ``[M, E]`` -> ``[M, N]``.

        Args:
            input_ids: of 0.33, for routers without a formula here.
        """
        # In 0.33 the layer holds what its router was made of, and what that does not use.
        router = getattr(layer, "router", layer)
        own = getattr(router, "custom_routing_function", None)
        if own is not None:
            weights, ids = own(
                hidden_states=x, gating_output=router_logits, topk=router.top_k,
                renormalize=router.renormalize,
            )  # fmt: skip
        else:
            grouped = getattr(router, "use_grouped_topk", True)
            groups, top_groups = (
                (getattr(router, name, 1) if grouped else 1) or 1
                for name in ("num_expert_group", "topk_group")
            )
            bias = getattr(router, "e_score_correction_bias", None)
            scaled = grouped or bias is not None
            weights, ids = choose(
                router_logits, router.top_k, router.scoring_func,
                renormalize=router.renormalize, bias=bias, groups=groups, top_groups=top_groups,
                scale=getattr(router, "routed_scaling_factor", 1.0) if scaled else 1.0,
            )  # fmt: skip
        return run(
            x, layer.w13_weight, layer.w2_weight, weights, ids, name_of(layer),
            getattr(layer, "w13_bias", None), getattr(layer, "w2_bias", None),
            weight_on_input=layer.apply_router_weight_on_input,
        )  # fmt: skip


def choose(
    logits: Tensor,
    count: int,
    scoring: str,
    *,
    renormalize: bool,
    bias: Tensor | None = None,
    groups: int = 1,
    top_groups: int = 1,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Weights and numbers of the ``count`` experts of largest score, float64 ``[M, count]``.

    The bias counts for the choice alone. Of ``groups`` groups the ``top_groups`` with the best
    score (with a bias: sum of the two best) take part. Sources: DeepSeek-V2 (arXiv:2405.04434) and
    V3 (arXiv:2412.19437), section 2.1.

    Raises:
        UnsupportedError: a scoring function other than softmax and sigmoid.
    """
    logits = logits.double()
    if scoring not in ("softmax", "sigmoid"):
        raise UnsupportedError(f"experts scored by {scoring!r} have no formula to judge by.")
    scores = logits.softmax(-1) if scoring == "softmax" else logits.sigmoid()
    ranked = scores if bias is None else scores + bias.double()
    if groups > 1:
        parts = ranked.unflatten(1, (groups, -1))
        best = parts.amax(-1) if bias is None else parts.topk(2, -1).values.sum(-1)
        kept = torch.zeros_like(best, dtype=torch.bool)
        kept.scatter_(1, best.topk(top_groups, -1).indices, True)
        ranked = parts.masked_fill(~kept.unsqueeze(-1), -torch.inf).flatten(1)
    ids = ranked.topk(count, -1).indices
    weights = scores.gather(1, ids)
    if renormalize:
        weights = weights / weights.sum(-1, keepdim=True)
    return weights * scale, ids


def run(
    x: Tensor,
    inner: Tensor,
    outer: Tensor,
    weights: Tensor,
    ids: Tensor,
    activation: str,
    inner_bias: Tensor | None = None,
    outer_bias: Tensor | None = None,
    *,
    weight_on_input: bool = False,
) -> Tensor:
    """Sum over the chosen experts of ``weight (act(x inner^T) outer^T)``.

    Shapes: x ``[M, N]``, inner ``[E, 2 I, N]`` (gate rows, then up rows), outer ``[E, N, I]``.
    """
    result = torch.zeros_like(x)
    for expert in ids.unique().tolist():
        rows, choices = (ids == expert).nonzero(as_tuple=True)
        weight = weights[rows, choices].unsqueeze(1).to(x.dtype)
        given = x[rows] * weight if weight_on_input else x[rows]
        hidden = F.linear(given, inner[expert], None if inner_bias is None else inner_bias[expert])
        made = F.linear(
            _activate(hidden, activation), outer[expert],
            None if outer_bias is None else outer_bias[expert],
        )  # fmt: skip
        result.index_add_(0, rows, made if weight_on_input else made * weight)
    return result


def _activate(x: Tensor, name: str) -> Tensor:
    if name == "swigluoai":
        gate = x[..., ::2].clamp(max=7.0)
        return gate * torch.sigmoid(1.702 * gate) * (x[..., 1::2].clamp(-7.0, 7.0) + 1)
    if name not in ("silu", "gelu"):
        raise UnsupportedError(f"experts with the activation {name!r} have no formula to judge by.")
    gate, up = x.chunk(2, -1)
    return (F.silu(gate) if name == "silu" else F.gelu(gate)) * up
