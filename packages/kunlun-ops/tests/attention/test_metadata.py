# SPDX-License-Identifier: Apache-2.0
"""Metadata of a step: how the batch is split, and what another group of layers gets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.attention_steps import (
    BATCHES,
    CHUNKED,
    DECODE,
    MIXED,
    PREFILL,
    SPECULATIVE,
    Layer,
    Step,
    make_builder,
    speculation,
)
from vllm.config import VllmConfig
from vllm.v1.kv_cache_interface import FullAttentionSpec

from vllm_kunlun.ops.attention.backend import KunlunAttentionBackend
from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS


def test_the_batch_is_split_after_its_leading_decodes() -> None:
    step = Step(MIXED, padding=4)
    metadata = make_builder(step).build(0, step.common())
    assert (metadata.decode.num_requests, metadata.decode.num_tokens) == (2, 2)
    assert (metadata.prefill.first_token, metadata.prefill.num_tokens) == (2, 29)
    assert metadata.prefill.query_lod.tolist() == [0, 9, 29]
    assert metadata.prefill.kv_lod.tolist() == [0, 9, 29]
    assert not metadata.prefill.has_context
    assert metadata.num_actual_tokens == 31
    chunked = Step(CHUNKED)
    assert make_builder(chunked).build(0, chunked.common()).prefill.has_context


def test_only_a_half_may_be_there() -> None:
    for requests, has_decode, has_prefill in ((DECODE, True, False), (PREFILL, False, True)):
        step = Step(requests)
        metadata = make_builder(step).build(0, step.common())
        assert (metadata.decode is not None, metadata.prefill is not None) == (
            has_decode,
            has_prefill,
        )


def test_whole_batch_is_one_prefill() -> None:
    step = Step(MIXED)
    whole = make_builder(step).build(0, step.common()).whole_batch
    assert whole.query_lod_host.tolist() == [0, 1, 2, 11, 31]
    assert whole.kv_lod_host.tolist() == [0, 6, 47, 56, 76]
    assert whole.block_table.shape[0] == 4


def test_a_drafter_that_gives_no_host_lengths_is_served() -> None:
    step = Step(CHUNKED)
    common = step.common()
    setattr(common, SEQ_LENS, None)
    step.check(step.run_with(make_builder(step).build(0, common)))


@pytest.mark.parametrize("slopes", [None, [0.5, 0.25, 0.125, 0.0625]], ids=["plain", "alibi"])
@pytest.mark.parametrize("interleaved", [False, True], ids=["packed", "interleaved"])
@pytest.mark.parametrize("batch", ["prefill", "decode", "mixed", "chunked"])
def test_metadata_moved_to_another_groups_pages(
    batch: str, interleaved: bool, slopes: list[float] | None
) -> None:
    layer = Layer(slopes=slopes)
    first = Step(BATCHES[batch], layer, interleaved=interleaved, seed=1)
    second = Step(BATCHES[batch], layer, interleaved=interleaved, seed=2)
    assert not torch.equal(first.table, second.table)
    builder = make_builder(first)
    metadata = builder.build(0, first.common())
    first.check(first.run_with(metadata))  # fills whatever the metadata caches
    moved = builder.update_block_table(metadata, second.table, second.slots)
    second.check(second.run_with(moved))
    assert moved.slot_mapping is second.slots
    assert torch.equal(metadata.common.block_table, first.table), "the first group lost its pages"


@pytest.mark.parametrize("interleaved", [False, True], ids=["packed", "interleaved"])
def test_queries_of_speculative_decoding(interleaved: bool) -> None:
    step = Step(SPECULATIVE, interleaved=interleaved)
    builder = make_builder(step, speculative_tokens=2)
    metadata = builder.build(0, step.common())
    assert metadata.decode is not None and metadata.decode.query_len == 3
    assert metadata.prefill is None
    step.check(step.run_with(metadata))


@pytest.mark.parametrize(("drafts", "is_decode"), [(31, True), (32, False)])
def test_more_queries_than_decode_is_known_for_are_prefill(drafts: int, is_decode: bool) -> None:
    step = Step([(drafts + 1, 20), (drafts + 1, 3)])
    builder = make_builder(step, speculative_tokens=drafts)
    metadata = builder.build(0, step.common())
    assert (metadata.decode is not None, metadata.prefill is None) == (is_decode, is_decode)
    step.check(step.run_with(metadata))


def test_speculative_requests_before_longer_ones() -> None:
    step = Step([*SPECULATIVE, (2, 30), (9, 0)])
    step.check(step.run(make_builder(step, speculative_tokens=2)))


def builder(drafts: int) -> Any:
    config = SimpleNamespace(
        speculative_config=speculation(drafts), parallel_config=VllmConfig().parallel_config
    )
    spec = FullAttentionSpec(block_size=64, num_kv_heads=2, head_size=64, dtype=torch.float16)
    make = KunlunAttentionBackend.get_builder_cls()
    return make(spec, ["layer"], config, torch.device("cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("drafts", "queries"), [(0, 1), (1, 2), (30, 31), (31, 32), (32, 32), (100, 32)]
)
def test_decode_takes_what_is_verified_up_to_32_queries(drafts: int, queries: int) -> None:
    assert builder(drafts).reorder_batch_threshold == queries


def test_page_and_head_sizes_are_the_contracts() -> None:
    assert KunlunAttentionBackend.get_supported_kernel_block_sizes() == [16, 32, 64, 128]
    sizes = KunlunAttentionBackend.get_supported_head_sizes()
    assert sizes == [32, 64, 80, 96, 112, 120, 128, 192, 256, 512]
    assert KunlunAttentionBackend.supports_block_size(192)
    assert not KunlunAttentionBackend.supports_block_size(24)
