# SPDX-License-Identifier: Apache-2.0
"""The experts' method and the layer of grouped routing: what a layer says reaches the ops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.layers.fused_moe.router.grouped_topk_router import GroupedTopk

from vllm_kunlun.ops.layers import LAYERS, register_layers
from vllm_kunlun.ops.layers.moe import KunlunUnquantizedFusedMoEMethod
from vllm_kunlun.platforms.ledger import patch_ledger

TOKENS, EXPERTS, WIDTH, INNER = 5, 4, 6, 8


def layer(**changes: Any) -> Any:
    random = torch.Generator().manual_seed(11)
    return SimpleNamespace(
        **{
            "w13_weight": torch.randn(EXPERTS, 2 * INNER, WIDTH, generator=random),
            "w2_weight": torch.randn(EXPERTS, WIDTH, INNER, generator=random),
            "activation": "silu",
            "apply_router_weight_on_input": False,
            "expert_map": None,
            **changes,
        }
    )


def inputs(choices: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """x, weights, ids."""
    random = torch.Generator().manual_seed(12)
    ids = torch.rand(TOKENS, EXPERTS, generator=random).argsort(-1)[:, :choices].int()
    return (
        torch.randn(TOKENS, WIDTH, generator=random),
        torch.rand(TOKENS, choices, generator=random),
        ids,
    )


def expected(made: Any, x: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
    """One token and one expert at a time, in float64."""
    result = torch.zeros(x.shape, dtype=torch.float64)
    for token in range(len(x)):
        for weight, chosen in zip(weights[token].double(), ids[token].tolist(), strict=True):
            expert = chosen if made.expert_map is None else int(made.expert_map[chosen])
            if expert < 0:
                continue
            row = x[token].double()
            if made.apply_router_weight_on_input:
                row, weight = row * weight, 1.0
            inner = made.w13_weight[expert].double() @ row
            if hasattr(made, "w13_bias"):
                inner = inner + made.w13_bias[expert].double()
            gate, up = inner.chunk(2)
            act = F.silu if made.activation == "silu" else F.gelu
            out = made.w2_weight[expert].double() @ (act(gate) * up)
            if hasattr(made, "w2_bias"):
                out = out + made.w2_bias[expert].double()
            result[token] += weight * out
    return result


def check(made: Any, choices: int = 2) -> None:
    x, weights, ids = inputs(choices)
    kept = x.clone()
    # The method reads nothing of itself.
    came = KunlunUnquantizedFusedMoEMethod.forward_oot(mock.sentinel, made, x, weights, ids)
    torch.testing.assert_close(came.double(), expected(made, x, weights, ids), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_experts(activation: str) -> None:
    check(layer(activation=activation))


def test_biases_of_the_layer_are_added() -> None:
    random = torch.Generator().manual_seed(13)
    check(layer(w13_bias=torch.randn(EXPERTS, 2 * INNER, generator=random)))
    check(layer(w2_bias=torch.randn(EXPERTS, WIDTH, generator=random)))


def test_the_router_may_weigh_the_input() -> None:
    check(layer(apply_router_weight_on_input=True), choices=1)


def test_experts_of_other_ranks_add_nothing() -> None:
    """Experts 1 and 3 live here, as 0 and 1."""
    whole = layer()
    check(
        layer(
            w13_weight=whole.w13_weight[[1, 3]],
            w2_weight=whole.w2_weight[[1, 3]],
            expert_map=torch.tensor([-1, 0, -1, 1], dtype=torch.int32),
        )
    )


def test_weights_stay_as_they_were_loaded() -> None:
    """vLLM's own method packs them for the CPU, and exchanges tokens by CUDA libraries."""
    made = layer()
    before = dict(vars(made))
    method = KunlunUnquantizedFusedMoEMethod.__new__(KunlunUnquantizedFusedMoEMethod)
    method.process_weights_after_loading(made)
    assert vars(made) == before
    assert method.maybe_make_prepare_finalize() is None


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_layer_of_grouped_routing_is_vllms(scoring: str, with_bias: bool) -> None:
    register_layers()
    arguments = (3, True, 4, 2, scoring, 2.5)
    with set_current_vllm_config(VllmConfig()):
        ours = GroupedTopk(*arguments)
        with mock.patch.dict(op_registry_oot, clear=True):
            theirs = GroupedTopk(*arguments)
    assert type(ours) is LAYERS["GroupedTopk"]
    assert ours._forward_method == ours.forward_oot
    theirs.native_impl = patch_ledger.original("grouped-routing")
    random = torch.Generator().manual_seed(3)
    hidden, logits = torch.zeros(7, 2), torch.randn(7, 16, generator=random)
    bias = torch.randn(16, generator=random) if with_bias else None
    found, wanted = (
        torch.zeros(7, 16).scatter_(1, ids.long(), weights)
        for weights, ids in (
            ours(hidden, logits, bias),
            theirs.forward_native(hidden, logits, bias),
        )
    )  # by expert: their order is free
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
