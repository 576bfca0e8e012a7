# SPDX-License-Identifier: Apache-2.0
"""The dense attention backend, driven as vLLM's runner drives it, against loops in float64."""

from __future__ import annotations

import pytest
import torch
from support.attention_steps import (
    BATCHES,
    CHUNKED,
    DECODE,
    MIXED,
    TOLERANCES,
    Layer,
    Step,
    make_builder,
)
from vllm.v1.attention.backend import AttentionType

from vllm_kunlun.ops.attention.backend import KunlunAttentionBackend
from vllm_kunlun.ops.attention.implementation import KunlunAttentionImpl
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("interleaved", [False, True], ids=["packed", "interleaved"])
@pytest.mark.parametrize("batch", sorted(BATCHES))
def test_batches(batch: str, interleaved: bool, dtype: torch.dtype) -> None:
    Step(BATCHES[batch], dtype=dtype, interleaved=interleaved).check()


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 1), (5, 5), (9, 3), (1, 1)])
@pytest.mark.parametrize("size", [32, 80, 128])
def test_head_counts_and_sizes(heads: int, kv_heads: int, size: int) -> None:
    Step(CHUNKED, Layer(heads=heads, kv_heads=kv_heads, size=size)).check()


@pytest.mark.parametrize("block_size", KunlunAttentionBackend.get_supported_kernel_block_sizes())
def test_block_sizes(block_size: int) -> None:
    Step([(1, 2 * block_size - 1), (1, 127), (5, block_size)], block_size=block_size).check()


@pytest.mark.parametrize("batch", ["prefill", "decode", "mixed", "chunked"])
def test_tokens_beyond_the_step_are_left_alone(batch: str) -> None:
    step = Step(BATCHES[batch], padding=5)
    step.check()
    assert step.output[step.tokens :].isnan().all()


def test_new_tokens_are_in_the_cache_afterwards() -> None:
    step = Step(CHUNKED, padding=3)
    before = step.cache.clone()
    step.run()
    owned = torch.zeros(step.cache.shape[1], step.block_size, dtype=torch.bool)
    for row, (key, value) in enumerate(zip(step.keys, step.values, strict=True)):
        for position in range(len(key)):
            block = int(step.table[row, position // step.block_size])
            offset = position % step.block_size
            assert torch.equal(step.cache[0, block, :, offset], key[position])
            assert torch.equal(step.cache[1, block, :, offset], value[position])
            owned[block, offset] = True
    free = ~owned[None, :, None, :, None].expand_as(before)
    assert torch.equal(step.cache[free].isnan(), before[free].isnan()), "a foreign slot was written"


def test_query_key_value_cut_from_one_projection() -> None:
    step = Step(MIXED)
    layer = step.layer
    packed = torch.cat(
        [step.query.flatten(1), step.new_key.flatten(1), step.new_value.flatten(1)], dim=1
    )
    sizes = [layer.heads * layer.size, layer.kv_heads * layer.size, layer.kv_heads * layer.size]
    step.query, step.new_key, step.new_value = (
        part.view(-1, part.shape[1] // layer.size, layer.size) for part in packed.split(sizes, 1)
    )
    assert not step.query.is_contiguous()
    step.check()


def test_profiling_run_without_metadata_gives_zeros() -> None:
    step = Step(MIXED)
    output = step.layer.implementation().forward(
        torch.nn.Module(), step.query, step.new_key, step.new_value, step.cache, None, step.output
    )
    assert torch.equal(output, torch.zeros_like(output))


@pytest.mark.parametrize("interleaved", [False, True], ids=["packed", "interleaved"])
@pytest.mark.parametrize("window", [1, 4, 16, 1000])
@pytest.mark.parametrize("batch", sorted(BATCHES))
def test_sliding_window(batch: str, window: int, interleaved: bool) -> None:
    Step(BATCHES[batch], Layer(window=window), interleaved=interleaved).check()


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("batch", sorted(BATCHES))
def test_sinks(batch: str, window: int | None) -> None:
    sinks = torch.tensor([0.5, -3.0, 4.0, 0.0])
    Step(BATCHES[batch], Layer(sinks=sinks, window=window)).check()


def test_sinks_kept_in_half_precision_by_the_checkpoint() -> None:
    sinks = torch.tensor([0.5, -3.0, 4.0, 0.0], dtype=torch.bfloat16)
    Step(MIXED, Layer(sinks=sinks)).check()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_sinks_that_came_at_run_time_lie_where_the_old_ones_did(dtype: torch.dtype) -> None:
    sinks = torch.tensor([0.5, -3.0, 4.0, 0.0], dtype=dtype)
    layer = KunlunAttentionImpl(4, 32, 1.0, sinks=sinks)
    layer.process_weights_after_loading(dtype)
    held = layer.sinks
    sinks.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    layer.process_weights_after_loading(dtype)
    assert layer.sinks is held and held is not None and held.dtype == torch.float32
    assert held.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("interleaved", [False, True], ids=["packed", "interleaved"])
@pytest.mark.parametrize("batch", sorted(BATCHES))
def test_alibi(batch: str, interleaved: bool) -> None:
    slopes = [0.5, 0.25, 0.125, 0.0625]
    Step(BATCHES[batch], Layer(slopes=slopes), interleaved=interleaved).check()


@pytest.mark.parametrize("batch", sorted(BATCHES))
@pytest.mark.parametrize("soft_cap", [None, 1.5])
def test_shared_cache_is_read_and_never_written(batch: str, soft_cap: float | None) -> None:
    step = Step(BATCHES[batch], Layer(shares_cache=True, soft_cap=soft_cap))
    step.new_key = torch.full_like(step.new_key, 7.0)  # such a layer's own keys mean nothing
    step.new_value = torch.full_like(step.new_value, 7.0)
    before = step.cache.clone()
    step.check()
    assert torch.equal(step.cache.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("slopes", [None, [0.5, 0.25, 0.125, 0.0625]], ids=["plain", "alibi"])
@pytest.mark.parametrize("kind", [AttentionType.ENCODER_ONLY, AttentionType.ENCODER])
def test_encoder_sees_both_directions_and_has_no_cache(
    kind: str, slopes: list[float] | None, window: int | None
) -> None:
    step = Step([(7, 0), (1, 0), (20, 0)], Layer(kind=kind, window=window, slopes=slopes))
    step.cache = torch.empty(0)
    step.check()


def test_a_soft_cap_beside_sinks_or_alibi_is_refused() -> None:
    for layer in (
        Layer(soft_cap=1.0, sinks=torch.zeros(4)),
        Layer(soft_cap=1.0, slopes=[1.0] * 4),
    ):
        with pytest.raises(UnsupportedError, match="soft cap"):
            layer.implementation()


def test_an_unknown_request_of_a_model_is_named() -> None:
    with pytest.raises(UnsupportedError, match="qk_clamp"):
        KunlunAttentionImpl(4, 32, 0.2, qk_clamp=1.0)


def test_a_quantised_output_is_refused() -> None:
    step = Step(DECODE)
    metadata = make_builder(step).build(0, step.common())
    with pytest.raises(UnsupportedError, match="quantised output"):
        step.layer.implementation().forward(
            torch.nn.Module(), step.query, step.new_key, step.new_value, step.cache, metadata,
            step.output, output_scale=torch.ones(1),
        )  # fmt: skip
