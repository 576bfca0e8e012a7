# SPDX-License-Identifier: Apache-2.0
"""Which of its attention layers take the fused function; engine tests hold what it computes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from vllm.model_executor.models.qwen3_moe import Qwen3MoeAttention, Qwen3MoeForCausalLM

from vllm_kunlun.models.qwen.qwen3_moe import KunlunQwen3MoeAttention, KunlunQwen3MoeForCausalLM
from vllm_kunlun.ops.layers.rotary import ROTARY_LAYERS
from vllm_kunlun.ops.rotary_embedding import FUSED_EPS


@pytest.mark.parametrize("eps", [FUSED_EPS, FUSED_EPS * 10])
def test_layers_that_can_change_their_class(eps, monkeypatch):
    rotation = ROTARY_LAYERS["RotaryEmbedding"]
    layer = Qwen3MoeAttention.__new__(Qwen3MoeAttention)
    parts = {
        "_modules": {},
        "q_norm": SimpleNamespace(variance_epsilon=eps),
        "rotary_emb": rotation.__new__(rotation),
    }
    object.__setattr__(parts["rotary_emb"], "is_neox_style", True)
    for name, value in parts.items():
        object.__setattr__(layer, name, value)

    def build(self, *, vllm_config, prefix):
        object.__setattr__(self, "model", SimpleNamespace(modules=lambda: iter([layer])))

    monkeypatch.setattr(Qwen3MoeForCausalLM, "__init__", build)
    KunlunQwen3MoeForCausalLM(vllm_config=None)
    assert type(layer) is (KunlunQwen3MoeAttention if eps == FUSED_EPS else Qwen3MoeAttention)
