# SPDX-License-Identifier: Apache-2.0
"""The judge's experts against transformers' modules, and its choice against theirs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import DeepseekV3Config, MixtralConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from vllm_kunlun.cli.verify.own_class.experts import FormulaExperts, choose, run
from vllm_kunlun.platforms.errors import UnsupportedError

TOKENS, WIDTH, INNER, EXPERTS, CHOSEN = 6, 16, 24, 8, 3


@pytest.fixture
def tokens():
    return torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


def random(module):
    generator = torch.Generator().manual_seed(1)
    for parameter in [*module.parameters(), *module.buffers()]:
        parameter.data.normal_(std=0.3, generator=generator)
    return module.eval()


def stacked(experts):
    """Weights ``[E, 2 I, N]`` and ``[E, N, I]`` of gated experts; transformers 5 has them so."""
    if hasattr(experts, "gate_up_proj"):
        return experts.gate_up_proj, experts.down_proj
    names = ("w1", "w3", "w2") if hasattr(experts[0], "w1") else (
        "gate_proj", "up_proj", "down_proj")  # fmt: skip
    gate, up, down = (torch.stack([getattr(each, name).weight for each in experts])
                      for name in names)  # fmt: skip
    return torch.cat([gate, up], 1), down


@torch.inference_mode()
def test_softmax_is_mixtral_s(tokens):
    config = MixtralConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_local_experts=EXPERTS,
        num_experts_per_tok=CHOSEN,
    )  # fmt: skip
    block = random(MixtralSparseMoeBlock(config))
    inner, outer = stacked(block.experts)
    logits = tokens @ block.gate.weight.T
    weights, ids = choose(logits, CHOSEN, "softmax", renormalize=True)
    expected = block(tokens.unsqueeze(0))
    expected = (expected[0] if isinstance(expected, tuple) else expected)[0]
    torch.testing.assert_close(run(tokens, inner, outer, weights, ids, "silu"), expected)


@torch.inference_mode()
def test_sigmoid_with_bias_and_groups_is_deepseek_v3_s(tokens):
    config = DeepseekV3Config(
        hidden_size=WIDTH, moe_intermediate_size=INNER, n_routed_experts=EXPERTS,
        num_experts_per_tok=CHOSEN, n_group=4, topk_group=2, routed_scaling_factor=1.7,
        norm_topk_prob=True, n_shared_experts=1,
    )  # fmt: skip
    block = random(DeepseekV3MoE(config))
    inner, outer = stacked(block.experts)
    logits = tokens @ block.gate.weight.T
    weights, ids = choose(
        logits, CHOSEN, "sigmoid", renormalize=True, bias=block.gate.e_score_correction_bias,
        groups=4, top_groups=2, scale=1.7,
    )  # fmt: skip
    found = run(tokens, inner, outer, weights, ids, "silu") + block.shared_experts(tokens)
    torch.testing.assert_close(found, block(tokens.unsqueeze(0))[0])


def test_weights_may_act_on_what_is_given(tokens):
    """Twice the input of a layer with a bias is not twice its output."""
    inner, outer = torch.randn(1, 2 * INNER, WIDTH), torch.randn(1, WIDTH, INNER)
    ids, twice = torch.zeros(TOKENS, 1, dtype=torch.long), torch.full((TOKENS, 1), 2.0)
    once = torch.ones_like(twice)
    found = run(tokens, inner, outer, twice, ids, "gelu", weight_on_input=True)
    torch.testing.assert_close(found, run(2 * tokens, inner, outer, once, ids, "gelu"))
    assert not torch.allclose(found, run(tokens, inner, outer, twice, ids, "gelu"))


def test_what_has_no_formula_is_refused(tokens):
    with pytest.raises(UnsupportedError, match="scored by 'other'"):
        choose(tokens, 1, "other", renormalize=False)
    ids = torch.zeros(TOKENS, 1, dtype=torch.long)
    matrices = torch.zeros(1, 2 * INNER, WIDTH), torch.zeros(1, WIDTH, INNER)
    with pytest.raises(UnsupportedError, match="activation 'other'"):
        run(tokens, *matrices, torch.ones(TOKENS, 1), ids, "other")


GROUPS = {"num_expert_group": 4, "topk_group": 2}
OF_GROUPS = {"groups": 4, "top_groups": 2, "scale": 2.5}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, {}),
        ({**GROUPS, "routed_scaling_factor": 2.5}, OF_GROUPS),
        ({**GROUPS, "routed_scaling_factor": 2.5, "use_grouped_topk": True}, OF_GROUPS),
        ({**GROUPS, "routed_scaling_factor": 2.5, "use_grouped_topk": False}, {}),
    ],
    ids=["plain", "groups", "told of groups", "told of groups that are not used"],
)
@pytest.mark.parametrize("beside", [False, True], ids=["router", "layer"])
@torch.inference_mode()
def test_a_layer_of_either_form(rule, expected, beside, tokens):
    """How experts are chosen is the router's until 0.16, and in 0.33 the layer's, which may say
    more than its router uses."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(TOKENS, EXPERTS, generator=generator)
    weights = {
        "w13_weight": torch.randn(EXPERTS, 2 * INNER, WIDTH, generator=generator),
        "w2_weight": torch.randn(EXPERTS, WIDTH, INNER, generator=generator),
    }
    rule = {"top_k": CHOSEN, "scoring_func": "softmax", "renormalize": True, **rule}
    layer = SimpleNamespace(**weights, activation="silu", apply_router_weight_on_input=False)
    options = {}
    if beside:
        vars(layer).update(rule, activation=SimpleNamespace(value="silu"))
        options["input_ids"] = None
    else:
        layer.router = SimpleNamespace(**rule)
    found = FormulaExperts.apply_monolithic(None, layer, tokens, logits, **options)
    chosen = choose(logits, CHOSEN, "softmax", renormalize=True, **expected)
    torch.testing.assert_close(found, run(tokens, *weights.values(), *chosen, "silu"))
