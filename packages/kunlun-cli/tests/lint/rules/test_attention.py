# SPDX-License-Identifier: Apache-2.0
"""``attention``: kernels of other devices, and torch's own attention in a layer."""

PLANTED = """\
import flash_attn
from vllm import _custom_ops as ops
from vllm.triton_utils import tl, triton
from torch.nn import functional as F


class Attend(nn.Module):
    def forward(self, query, key, value):
        return F.scaled_dot_product_attention(query, key, value)
"""
MENDED = """\
from vllm.attention.layer import Attention
from vllm.platforms import current_platform

if current_platform.is_cuda():
    import flash_attn


class Attend(nn.Module):
    def forward(self, query, key, value):
        return self.attention(query, key, value)


def in_a_benchmark(query, key, value):
    return F.scaled_dot_product_attention(query, key, value)
"""


def test_each_way_round_the_layer_is_found(found):
    assert found("attention", PLANTED) == [
        (1, "flash_attn holds kernels for other devices"),
        (2, "vllm._custom_ops holds kernels for other devices"),
        (3, "vllm.triton_utils holds kernels for other devices"),
        (9, "torch's attention is called, and no layer of vLLM's"),
    ]


def test_a_layer_of_vllm_and_what_another_device_does_are_well(found):
    assert found("attention", MENDED) == []
