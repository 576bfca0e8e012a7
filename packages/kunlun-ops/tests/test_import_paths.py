# SPDX-License-Identifier: Apache-2.0
"""The import paths that the vendor's manual gives, as a model written after it uses them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding import get_rope

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract.functions import called
from vllm_kunlun.ops.layers import LAYERS
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.vllm_compat import attention_layer


def load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("vllm_kunlun.ops.activation.SiluAndMul", "SiluAndMul"),
        ("vllm_kunlun.ops.activation.GeluAndMul", "GeluAndMul"),
        ("vllm_kunlun.ops.activation.QuickGELU", "QuickGELU"),
        (
            "vllm_kunlun.ops.vocab_parallel_embedding.VocabParallelEmbedding",
            "VocabParallelEmbedding",
        ),
        ("vllm_kunlun.ops.vocab_parallel_embedding.ParallelLMHead", "ParallelLMHead"),
    ],
)
def test_layers_are_the_classes_that_vllms_names_give(path: str, layer: str) -> None:
    assert load(path) is LAYERS[layer]


def test_attention_layer_is_vllms() -> None:
    assert load("vllm_kunlun.ops.attention.layer.Attention") is attention_layer.Attention


def test_a_layer_from_the_manuals_path_computes() -> None:
    with set_current_vllm_config(VllmConfig()):
        layer = load("vllm_kunlun.ops.activation.SiluAndMul")()
    x = torch.randn(3, 14)
    gate, up = x.chunk(2, -1)
    torch.testing.assert_close(layer(x), torch.nn.functional.silu(gate) * up)


def test_vendor_functions_by_attribute() -> None:
    functions = load("vllm_kunlun.ops._kunlun_ops.KunlunOps")
    for name in (each.adapter_name for each in called()):
        assert getattr(functions, name) is getattr(vendor_ops, name)
        assert name in dir(functions)
    with pytest.raises(AttributeError, match="no_such_function"):
        functions.no_such_function  # noqa: B018


def test_vendor_functions_may_be_extended_by_a_subclass() -> None:
    class More(load("vllm_kunlun.ops._kunlun_ops.KunlunOps")):
        @staticmethod
        def doubled(x: Tensor) -> Tensor:
            return 2 * x

    assert More.doubled(torch.ones(1)).item() == 2.0
    assert More.swiglu is vendor_ops.swiglu


def tripled(x: Tensor, out: Tensor) -> None:
    out.copy_(3 * x)


def test_direct_registration() -> None:
    register = load("vllm_kunlun.ops._custom_ops.direct_register_custom_op")
    op = register("tripled_by_the_tests", tripled, mutates_args=["out"])
    out = torch.zeros(2)
    torch.ops.vllm_kunlun.tripled_by_the_tests(torch.ones(2), out)
    assert out.tolist() == [3.0, 3.0]
    assert op is torch.ops.vllm_kunlun.tripled_by_the_tests.default


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("rotary", [None, 32], ids=["whole", "partial"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 1)])
def test_split_norm_rope_is_split_then_norm_then_rope(
    heads: int, kv_heads: int, rotary: int | None, dtype: torch.dtype
) -> None:
    size, tokens = 64, 7
    with set_current_vllm_config(VllmConfig()):
        norms = [RMSNorm(size, eps=1e-6), RMSNorm(size, eps=1e-6)]
        rope = get_rope(
            size,
            64,
            rope_parameters={
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 1.0 if rotary is None else rotary / size,
            },
            dtype=torch.float32,
        )
    for norm in norms:
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
    packed = torch.randn(tokens, (heads + 2 * kv_heads) * size).to(dtype)
    positions = torch.randint(64, (tokens,))
    table = rope.cos_sin_cache.to(dtype)
    weights = [norm.weight.detach().to(dtype) for norm in norms]
    got = load("vllm_kunlun.ops.rotary_embedding.Split_Norm_Rope")(
        packed, table, *weights, positions, heads, kv_heads, size, rotary
    )
    query, key, value = packed.double().split([heads * size, kv_heads * size, kv_heads * size], 1)
    expected = []
    for part, weight in ((query, weights[0]), (key, weights[1])):
        by_head = part.view(tokens, -1, size)
        scale = (by_head.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
        expected.append((by_head * scale * weight.double()).flatten(1))
    rotated = rope.forward_static(
        positions, *expected, size, rope.rotary_dim, table.double(), is_neox_style=True
    )
    tolerance = 1e-5 if dtype == torch.float32 else 4e-3
    for ours, theirs in zip(got, (*rotated, value), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=tolerance, atol=tolerance)


def test_split_norm_rope_with_another_epsilon_is_refused() -> None:
    function = load("vllm_kunlun.ops.rotary_embedding.Split_Norm_Rope")
    arguments = (torch.zeros(1, 128), torch.zeros(4, 32), torch.ones(32), torch.ones(32))
    with pytest.raises(UnsupportedError, match=r"eps=1e-05.*RMSNorm and get_rope"):
        function(*arguments, torch.zeros(1, dtype=torch.long), 2, 1, 32, eps=1e-5)
