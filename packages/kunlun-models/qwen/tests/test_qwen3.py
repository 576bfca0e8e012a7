# SPDX-License-Identifier: Apache-2.0
"""Which attention layers take the fused function; what it computes is held by the engine tests."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from vllm.model_executor.models.qwen3 import Qwen3Attention, Qwen3ForCausalLM

from vllm_kunlun.models.qwen.qwen3 import KunlunQwen3Attention, KunlunQwen3ForCausalLM
from vllm_kunlun.ops.layers.rotary import ROTARY_LAYERS
from vllm_kunlun.ops.rotary_embedding import FUSED_EPS

ROTARY = next(iter(ROTARY_LAYERS.values()))


def attention(kind=Qwen3Attention, eps=FUSED_EPS, rotary=ROTARY, neox=True):
    layer = kind.__new__(kind)
    object.__setattr__(layer, "_modules", {})
    rotation = rotary.__new__(rotary)
    object.__setattr__(rotation, "is_neox_style", neox)
    object.__setattr__(layer, "rotary_emb", rotation)
    object.__setattr__(layer, "q_norm", SimpleNamespace(variance_epsilon=eps))
    return layer


WRONG = {
    "epsilon": {"eps": FUSED_EPS * 10},
    "rotation": {"neox": False},
    "table": {"rotary": type("Other", (ROTARY,), {})},
}


def test_the_usual_layer_can_be_fused():
    assert KunlunQwen3Attention.can_fuse(attention())


@pytest.mark.parametrize("wrong", WRONG)
def test_another_layer_cannot(wrong):
    assert not KunlunQwen3Attention.can_fuse(attention(**WRONG[wrong]))


def test_only_layers_that_can_change_their_class(monkeypatch):
    class Other(Qwen3Attention):
        """A subclass of somebody else's, which has a forward of its own."""

    layers = [attention(), attention(eps=FUSED_EPS * 10), attention(Other)]

    def build(self, *, vllm_config, prefix):
        object.__setattr__(self, "model", SimpleNamespace(modules=lambda: iter(layers)))

    monkeypatch.setattr(Qwen3ForCausalLM, "__init__", build)
    KunlunQwen3ForCausalLM(vllm_config=None)
    assert [type(layer) for layer in layers] == [KunlunQwen3Attention, Qwen3Attention, Other]
