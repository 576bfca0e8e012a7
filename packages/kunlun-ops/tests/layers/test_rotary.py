# SPDX-License-Identifier: Apache-2.0
"""The plain rotary layers against the arithmetic of vLLM's own, and in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.layer_pairs import DTYPES, close, replaced_and_own
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.utils.torch_utils import set_default_torch_dtype

from vllm_kunlun.ops.layers import register_layers
from vllm_kunlun.ops.layers.rotary import ROTARY_LAYERS
from vllm_kunlun.ops.torch_ops import vllm_names


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    vllm_names.define()
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


def test_every_rotary_embedding_with_the_plain_forward_is_covered() -> None:
    assert {
        "RotaryEmbedding",
        "Llama3RotaryEmbedding",
        "LinearScalingRotaryEmbedding",
        "NTKScalingRotaryEmbedding",
        "DynamicNTKScalingRotaryEmbedding",
        "DynamicNTKAlphaRotaryEmbedding",
        "YaRNScalingRotaryEmbedding",
    } <= set(ROTARY_LAYERS)
    # Three positions per token: another forward, so it is none of these.
    assert "MRotaryEmbedding" not in ROTARY_LAYERS


_ROPES = {
    "default": {"rope_theta": 10_000.0},
    "partial": {"rope_theta": 500.0, "partial_rotary_factor": 0.25},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "linear": {"rope_type": "linear", "factor": 4.0},
    "ntk": {"rope_type": "ntk", "factor": 2.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "dynamic-alpha": {"rope_type": "dynamic", "alpha": 1000.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
}


def rope_pair(dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[Any, Any]:
    def build() -> Any:
        rotary_embedding._ROPE_DICT.clear()
        arguments = {"head_size": 64, "max_position": 128, "dtype": dtype} | changes
        return get_rope(**arguments)

    return replaced_and_own(build)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("neox", [True, False], ids=["neox", "interleaved"])
@pytest.mark.parametrize("scaling", sorted(_ROPES))
def test_rope(scaling: str, neox: bool, dtype: torch.dtype) -> None:
    ours, theirs = rope_pair(dtype, is_neox_style=neox, rope_parameters=_ROPES[scaling])
    assert torch.equal(ours.cos_sin_cache, theirs.cos_sin_cache)
    positions = torch.tensor([0, 1, 17, 127, 5, 5, 64])
    query, key = torch.randn(7, 6 * 64).to(dtype), torch.randn(7, 2 * 64).to(dtype)
    close(
        ours(positions, query.clone(), key.clone()),
        theirs.forward_native(positions, query, key),
    )


def test_rope_against_complex_rotation_in_double_precision() -> None:
    ours, _ = rope_pair(rope_parameters={"rope_theta": 10_000.0})
    positions = torch.arange(100)
    query, key = torch.randn(100, 3 * 64), torch.randn(100, 64)
    inverse = 10_000.0 ** -(torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    turn = torch.polar(torch.ones(100, 32).double(), positions.double()[:, None] * inverse)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        first, second = x.double().view(100, -1, 64).chunk(2, -1)
        turned = torch.complex(first, second) * turn[:, None]
        return torch.cat([turned.real, turned.imag], -1).reshape(x.shape).float()

    expected = rotate(query), rotate(key)
    torch.testing.assert_close(ours(positions, query, key), expected, rtol=1e-4, atol=2e-5)


def test_rope_of_slices_of_a_packed_projection() -> None:
    ours, theirs = rope_pair()
    packed = torch.randn(5, 8 * 64)
    kept = packed.clone()
    query, key, value = packed.split([5 * 64, 2 * 64, 64], dim=-1)
    positions = torch.arange(5)
    expected = theirs.forward_native(positions, query.contiguous(), key.contiguous())
    close(ours(positions, query, key), expected)
    assert torch.equal(value, kept[:, 7 * 64 :])


def test_rope_of_heads_in_a_dimension_of_their_own() -> None:
    ours, theirs = rope_pair()
    positions = torch.arange(6)
    query, key = torch.randn(6, 4, 64), torch.randn(6, 2, 64)
    expected = theirs.forward_native(positions, query, key)
    close(ours(positions, query.clone(), key.clone()), expected)


def test_rope_without_a_key() -> None:
    ours, theirs = rope_pair()
    positions, query = torch.arange(6), torch.randn(6, 4 * 64)
    rotated, key = ours(positions, query.clone(), None)
    assert key is None
    close(rotated, theirs.forward_native(positions, query, None)[0])


def test_rope_with_a_table_of_another_dtype() -> None:
    ours, theirs = rope_pair(torch.float32)
    positions = torch.arange(6)
    query, key = torch.randn(6, 4 * 64).half(), torch.randn(6, 64).half()
    rotated = ours(positions, query.clone(), key.clone())
    assert [each.dtype for each in rotated] == [torch.float16, torch.float16]
    expected = theirs.forward_native(positions, query.float(), key.float())
    close(rotated, expected)


def test_a_float32_table_is_converted_with_the_layer_and_not_in_a_step() -> None:
    with set_default_torch_dtype(torch.bfloat16):
        rope, _ = rope_pair(torch.float32)
    query = torch.zeros(1, dtype=torch.bfloat16)
    table = rope.table_like(query)
    assert torch.equal(table, rope.cos_sin_cache.bfloat16())
    assert rope.table_like(query).data_ptr() == table.data_ptr()
    assert rope.table_like(torch.zeros(1)).data_ptr() == rope.cos_sin_cache.data_ptr()
