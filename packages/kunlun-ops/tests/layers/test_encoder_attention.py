# SPDX-License-Identifier: Apache-2.0
"""The attention layer of image and sound encoders, against torch's attention and vLLM's layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed.parallel_state import (
    destroy_distributed_environment,
    destroy_model_parallel,
    init_distributed_environment,
    initialize_model_parallel,
)
from vllm.model_executor.layers.attention.mm_encoder_attention import MMEncoderAttention
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VisionTransformer

from vllm_kunlun.ops.layers import LAYERS, register_layers
from vllm_kunlun.ops.vendor_ops import library

TOLERANCES = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


def tensors(
    batch: int, tokens: int, heads: int, kv_heads: int, size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value as a model has them: parts of one projection, heads in one dimension."""
    packed = torch.randn(batch, tokens, (heads + 2 * kv_heads) * size).to(dtype)
    query, key, value = packed.split([heads * size, kv_heads * size, kv_heads * size], dim=-1)
    return query, key, value


def reference(
    query: Tensor, key: Tensor, value: Tensor, heads: int, kv_heads: int, scale: float | None
) -> Tensor:
    """torch's attention in float64 over one sequence of a batch of one."""
    wide = [
        each.double().unflatten(-1, (count, -1)).transpose(1, 2)
        for each, count in ((query, heads), (key, kv_heads), (value, kv_heads))
    ]
    out = F.scaled_dot_product_attention(*wide, scale=scale, enable_gqa=True)
    return out.transpose(1, 2).flatten(2)


def close(ours: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCES[ours.dtype]
    torch.testing.assert_close(ours, expected.to(ours.dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("size", [64, 72, 80])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2)])
@pytest.mark.parametrize("lengths", [[37], [16, 16, 16, 16], [5, 64, 1, 130, 12]], ids=str)
def test_packed_sequences(
    lengths: list[int], heads: int, kv_heads: int, size: int, dtype: torch.dtype
) -> None:
    layer = MMEncoderAttention(heads, size, size**-0.5, kv_heads)
    assert type(layer) is LAYERS["MMEncoderAttention"]
    query, key, value = tensors(1, sum(lengths), heads, kv_heads, size, dtype)
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    ours = layer(query, key, value, cu_seqlens=bounds, max_seqlen=torch.zeros([]))
    assert ours.dtype == dtype
    parts = zip(*(each.split(lengths, dim=1) for each in (query, key, value)), strict=True)
    close(ours, torch.cat([reference(*part, heads, kv_heads, None) for part in parts], dim=1))
    close(ours, layer.forward_native(query, key, value, bounds))


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2)])
def test_a_batch_of_whole_sequences(heads: int, kv_heads: int, scale: float | None) -> None:
    layer = MMEncoderAttention(heads, 72, scale, num_kv_heads=kv_heads)
    query, key, value = tensors(3, 29, heads, kv_heads, 72, torch.float32)
    ours = layer(query, key, value)
    close(ours, reference(query, key, value, heads, kv_heads, scale))
    by_head = [
        each.unflatten(-1, (count, 72))
        for each, count in ((query, heads), (key, kv_heads), (value, kv_heads))
    ]
    assert torch.equal(layer(*by_head).flatten(2), ours)


def test_a_scale_of_its_own_on_packed_sequences() -> None:
    layer = MMEncoderAttention(4, 80, 0.3)
    query, key, value = tensors(1, 20, 4, 4, 80, torch.float32)
    bounds = torch.tensor([0, 7, 20])  # int64, as some models have it
    ours = layer(query, key, value, bounds)
    close(ours, layer.forward_native(query, key, value, bounds))
    plain = MMEncoderAttention(4, 80)
    assert not torch.allclose(ours, plain(query, key, value, bounds), atol=1e-2)


def test_rows_of_a_batch_that_are_split_alike() -> None:
    """Where vLLM's flash path would take the bounds for those of all rows together."""
    layer = MMEncoderAttention(4, 16)
    query, key, value = tensors(2, 20, 4, 4, 16, torch.float32)
    ours = layer(query, key, value, torch.tensor([0, 7, 20], dtype=torch.int32))
    rows = (each.split([7, 13], dim=1) for each in (query, key, value))
    parts = zip(*rows, strict=True)
    close(ours, torch.cat([reference(*part, 4, 4, None) for part in parts], dim=1))


def test_the_layer_reads_no_value_from_the_device() -> None:
    """Traced with tensors without values; the op below is one node that a graph can hold."""
    layer = MMEncoderAttention(4, 16)
    query, key, value = (each.to("meta") for each in tensors(1, 20, 4, 4, 16, torch.float32))
    bounds = torch.tensor([0, 7, 20], dtype=torch.int32, device="meta")
    assert layer(query, key, value, bounds, torch.zeros([], device="meta")).shape == query.shape


@pytest.mark.parametrize("present", [None, SimpleNamespace(flash_attn_varlen_func=None)], ids=str)
def test_without_the_vendors_package_vllms_arithmetic_stands_in(present: Any) -> None:
    with library.use_libraries(flash_attn=present):
        layer = MMEncoderAttention(4, 72, num_kv_heads=2)
        query, key, value = tensors(1, 20, 4, 2, 72, torch.float32)
        bounds = torch.tensor([0, 7, 20], dtype=torch.int32)
        ours = layer(query, key, value, bounds)
    parts = zip(*(each.split([7, 13], dim=1) for each in (query, key, value)), strict=True)
    close(ours, torch.cat([reference(*part, 4, 2, None) for part in parts], dim=1))


def test_the_packages_functions_are_called() -> None:
    """The layer's numbers come from the vendor's functions, not from vLLM's arithmetic."""
    calls: list[tuple[str, dict[str, Any]]] = []

    class Recorder:
        def flash_attn_func(self, q: Tensor, *_: Tensor, **named: Any) -> Tensor:
            calls.append(("batch", named))
            return torch.ones_like(q)

        def flash_attn_varlen_func(self, q: Tensor, *_: Tensor, **named: Any) -> Tensor:
            calls.append(("packed", named))
            return torch.ones_like(q)

    with library.use_libraries(flash_attn=Recorder()):
        layer = MMEncoderAttention(4, 16, 0.25)
        query, key, value = tensors(1, 20, 4, 4, 16, torch.float32)
        assert layer(query, key, value).eq(1).all()
        layer(query, key, value, torch.tensor([0, 7, 20], dtype=torch.int32))
    assert calls[0] == ("batch", {"softmax_scale": 0.25})
    kind, named = calls[1]
    assert kind == "packed"
    assert named["max_seqlen_q"] == named["max_seqlen_k"] == 20
    assert "softmax_scale" not in named


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    init_distributed_environment(1, 0, f"file://{tmp_path}/meeting", 0, "gloo")
    initialize_model_parallel()
    yield
    destroy_model_parallel()
    destroy_distributed_environment()


@pytest.mark.usefixtures("one_rank")
def test_a_vision_tower_is_that_of_transformers() -> None:
    """Qwen2.5-VL's: windows of several sizes, then whole images; heads of 20."""
    config = Qwen2_5_VLVisionConfig(
        depth=3, hidden_size=80, intermediate_size=96, num_heads=4, out_hidden_size=48,
        patch_size=14, window_size=112, fullatt_block_indexes=[1], initializer_range=0.15,
    )  # fmt: skip
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    theirs = Qwen2_5_VisionTransformerPretrainedModel(config).eval()
    ours = Qwen2_5_VisionTransformer(config, theirs.blocks[0].norm1.variance_epsilon)
    ours.load_weights(theirs.named_parameters())
    layers = [module for module in ours.modules() if isinstance(module, MMEncoderAttention)]
    assert {type(layer) for layer in layers} == {LAYERS["MMEncoderAttention"]}
    grid = [[1, 14, 22], [1, 8, 10]]
    pixels = torch.randn(sum(t * h * w for t, h, w in grid), 3 * 2 * 14 * 14)
    with torch.no_grad():
        expected = theirs(pixels, torch.tensor(grid))
        close(ours(pixels, grid), getattr(expected, "pooler_output", expected))
