# SPDX-License-Identifier: Apache-2.0
"""What of Qwen3-Next is ours: which layers become ours, in which order their weights are loaded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.models.qwen3_next import (
    Qwen3NextAttention,
    Qwen3NextDecoderLayer,
    Qwen3NextForCausalLM,
)

from vllm_kunlun.models.qwen import qwen3_next
from vllm_kunlun.models.qwen.qwen3_next import (
    KunlunQwen3NextAttention,
    KunlunQwen3NextDecoderLayer,
    KunlunQwen3NextForCausalLM,
    KunlunQwen3NextGatedDeltaNet,
)
from vllm_kunlun.ops.layers.rotary import KunlunRotaryEmbedding
from vllm_kunlun.ops.vllm_compat.delta_net_layer import DeltaNetLayer

THEIRS = ((3, 640), (8, 24, 16))
OURS = ((3, 640), (8, 16, 24))


def bare(kind, **attributes):
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def linear():
    gates = {
        name: torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
        for name in ("A_log", "dt_bias")
    }
    return bare(DeltaNetLayer, norm=torch.nn.LayerNorm(4), **gates)


def full(eps=1e-6, neox=True):
    rotary = bare(KunlunRotaryEmbedding, is_neox_style=neox)
    return bare(
        Qwen3NextAttention,
        attn_output_gate=True,
        q_norm=SimpleNamespace(variance_epsilon=eps),
        rotary_emb=rotary,
    )


def decoder(attention, scale=False, divided=False):
    name = "linear_attn" if isinstance(attention, DeltaNetLayer) else "self_attn"
    return bare(
        Qwen3NextDecoderLayer,
        layer_scale=scale,
        use_attn_reduce_scatter_for_moe=divided,
        **{name: attention},
    )


@pytest.fixture
def build(monkeypatch):
    monkeypatch.setattr(
        KunlunQwen3NextGatedDeltaNet,
        "separate_projections",
        lambda self: setattr(self, "separate", True),
    )

    def model(*layers, quant_config=None, lora_config=None):
        def made(self, *, vllm_config, prefix):
            torch.nn.Module.__init__(self)
            self.model = torch.nn.ModuleList(layers)

        monkeypatch.setattr(Qwen3NextForCausalLM, "__init__", made)
        return KunlunQwen3NextForCausalLM(
            vllm_config=SimpleNamespace(
                scheduler_config=SimpleNamespace(max_num_seqs=7),
                model_config=SimpleNamespace(dtype=torch.bfloat16),
                quant_config=quant_config,
                lora_config=lora_config,
            )
        )

    return model


def test_the_configuration_gives_the_same_shape_after_drafts_were_checked(monkeypatch):
    checked = []
    monkeypatch.setattr(qwen3_next, "check_drafts", checked.append)
    monkeypatch.setattr(
        Qwen3NextForCausalLM,
        "get_mamba_state_shape_from_config",
        classmethod(lambda cls, vllm_config: THEIRS),
    )
    hf = SimpleNamespace(linear_key_head_dim=24, linear_value_head_dim=16)
    config = SimpleNamespace(model_config=SimpleNamespace(hf_config=hf))
    assert KunlunQwen3NextForCausalLM.get_mamba_state_shape_from_config(config) == OURS
    assert checked == [config]


def test_linear_layers_become_ours_and_the_first_one_is_profiled(build):
    first, last, other = linear(), linear(), torch.nn.Linear(1, 1)
    build(first, other, last)
    assert type(other) is torch.nn.Linear
    for each in (first, last):
        assert type(each) is KunlunQwen3NextGatedDeltaNet
        assert each.A_log.dtype == each.dt_bias.dtype == torch.float32
        assert each.norm.weight.dtype == torch.bfloat16, "that of the model, not of the checkpoint"
        assert each.separate
    assert (first.profiled_requests, last.profiled_requests) == (7, 0)


@pytest.mark.parametrize("given", [{"eps": 1e-5}, {"neox": False}], ids=str)
def test_attention_that_the_fused_function_cannot_do_stays(build, given):
    ours, theirs = decoder(full()), decoder(full(**given))
    build(ours, theirs)
    assert type(ours.self_attn) is KunlunQwen3NextAttention
    assert type(ours) is KunlunQwen3NextDecoderLayer
    assert type(theirs.self_attn) is Qwen3NextAttention
    assert type(theirs) is Qwen3NextDecoderLayer


@pytest.mark.parametrize("option", ["scale", "divided"])
def test_a_layer_that_scales_its_results_or_divides_tokens_among_ranks_stays(build, option):
    layer, other = decoder(linear()), decoder(linear(), **{option: True})
    build(layer, other)
    assert type(layer) is KunlunQwen3NextDecoderLayer
    assert type(other) is Qwen3NextDecoderLayer
    assert type(other.linear_attn) is KunlunQwen3NextGatedDeltaNet


@pytest.mark.parametrize(
    ("kind", "given"),
    [(KunlunQwen3NextAttention, {"positions": 0}), (KunlunQwen3NextGatedDeltaNet, {})],
    ids=["full", "linear"],
)
def test_results_are_returned_and_put_where_vllm_wants_them(kind, given, monkeypatch):
    """Until 0.16 it wants them in a tensor of its own."""
    monkeypatch.setattr(kind, "attended", lambda self, *inputs: inputs[-1] + 1)
    layer, hidden, wanted = bare(kind), torch.zeros(2, 3), torch.zeros(2, 3)
    assert (layer(hidden_states=hidden, **given) == 1).all()
    layer(hidden_states=hidden, output=wanted, **given)
    assert (wanted == 1).all()


@pytest.mark.parametrize("option", ["quant_config", "lora_config"])
def test_packed_weights_and_adapters_keep_the_order_of_vllm(build, option, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        Qwen3NextForCausalLM, "load_weights", lambda self, weights: loaded.extend(weights)
    )
    net = linear()
    model = build(net, **{option: object()})
    weights = [("net.in_proj_qkvz.weight", torch.ones(3))]
    model.load_weights(weights)
    assert not hasattr(net, "separate")
    assert loaded == weights
