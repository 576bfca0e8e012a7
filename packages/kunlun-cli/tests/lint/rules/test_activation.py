# SPDX-License-Identifier: Apache-2.0
"""``activation``: Hugging Face's, and gates written by hand."""

PLANTED = """\
import torch.nn.functional as F
from transformers.activations import ACT2FN


class Mlp(nn.Module):
    def __init__(self, config):
        self.act = ACT2FN[config.hidden_act]

    def forward(self, x):
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up + F.gelu(self.w1(x)) * self.w3(x)
"""
MENDED = """\
import torch.nn.functional as F
from vllm.model_executor.layers.activation import SiluAndMul


class Mlp(nn.Module):
    def __init__(self, config):
        self.act = SiluAndMul()

    def forward(self, x, z):
        return self.act(x) + F.silu(z) * self.norm(x)
"""


def test_each_is_found(found):
    assert found("activation", PLANTED) == [
        (7, "the activation is one of Hugging Face's, not one of vLLM's layers"),
        (11, "SiluAndMul is written out by hand"),
        (11, "GeluAndMul is written out by hand"),
    ]


def test_a_gate_of_another_tensor_is_no_half_of_one(found):
    assert found("activation", MENDED) == []
