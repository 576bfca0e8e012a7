# SPDX-License-Identifier: Apache-2.0
"""The dense attention backend, driven as vLLM's runner drives it, against loops in float64.

A case is a list of requests ``(query tokens, tokens already in the cache)``. The cache and the new
tokens are random, pages are handed out in random order, and memory that no request owns is NaN.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from vllm.config import VllmConfig
from vllm.v1.attention.backend import AttentionType, CommonAttentionMetadata
from vllm.v1.kv_cache_interface import FullAttentionSpec

from vllm_kunlun.ops.attention import soft_cap
from vllm_kunlun.ops.attention.backend import KunlunAttentionBackend
from vllm_kunlun.ops.attention.implementation import KunlunAttentionImpl
from vllm_kunlun.ops.attention.metadata import (
    KunlunAttentionMetadata,
    KunlunAttentionMetadataBuilder,
)
from vllm_kunlun.platforms.errors import UnsupportedError

TOLERANCES = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}

PREFILL = [(7, 0), (1, 0), (33, 0), (16, 0)]
DECODE = [(1, 0), (1, 15), (1, 16), (1, 70), (1, 3)]
MIXED = [(1, 5), (1, 40), (9, 0), (20, 0)]
CHUNKED = [(1, 12), (8, 24), (5, 0), (17, 31)]
SPECULATIVE = [(3, 0), (3, 14), (3, 60)]
BATCHES = {
    "prefill": PREFILL,
    "decode": DECODE,
    "mixed": MIXED,
    "chunked": CHUNKED,
    "one": [(1, 0)],
    "decode-after-prefill": [(9, 0), (1, 20), (1, 3)],
}


@dataclass
class Layer:
    """What a model says about one attention layer."""

    heads: int = 4
    kv_heads: int = 2
    size: int = 32
    scale: float = 0.2
    window: int | None = None
    soft_cap: float | None = None
    slopes: list[float] | None = None
    sinks: torch.Tensor | None = None
    kind: str = AttentionType.DECODER
    shares_cache: bool = False

    def implementation(self) -> KunlunAttentionImpl:
        made = KunlunAttentionImpl(
            self.heads,
            self.size,
            self.scale,
            self.kv_heads,
            self.slopes,
            self.window,
            "auto",
            self.soft_cap,
            self.kind,
            "model.layers.0.attn" if self.shares_cache else None,
            sinks=self.sinks,
        )
        made.process_weights_after_loading(torch.float32)
        return made


@dataclass
class Step:
    """One step of random requests: the cache as the runner would lay it out, and new tokens."""

    requests: list[tuple[int, int]]
    layer: Layer = field(default_factory=Layer)
    dtype: torch.dtype = torch.float32
    block_size: int = 16
    interleaved: bool = False
    padding: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        layer = self.layer
        lengths = [new + old for new, old in self.requests]
        self.tokens = sum(new for new, _ in self.requests)
        width = max(-(-length // self.block_size) for length in lengths) + 2
        pages = sum(-(-length // self.block_size) for length in lengths)
        shape = KunlunAttentionBackend.get_kv_cache_shape(
            pages + 3, self.block_size, layer.kv_heads, layer.size
        )
        self.cache = torch.full(shape, math.nan, dtype=self.dtype)
        if self.interleaved:
            self.cache = self.cache.transpose(0, 1).contiguous().transpose(0, 1)
            assert not self.cache[0].is_contiguous()
        free = (torch.randperm(pages + 2) + 1).tolist()
        self.table = torch.zeros(len(lengths), width, dtype=torch.int32)
        self.keys, self.values, slots = [], [], []
        for row, ((_, old), length) in enumerate(zip(self.requests, lengths, strict=True)):
            count = -(-length // self.block_size)
            owned = [free.pop() for _ in range(count)]
            self.table[row, :count] = torch.tensor(owned, dtype=torch.int32)
            key, value = (
                torch.randn(length, layer.kv_heads, layer.size).to(self.dtype) for _ in range(2)
            )
            for position in range(length):
                block, offset = owned[position // self.block_size], position % self.block_size
                if position < old or layer.shares_cache:
                    self.cache[0, block, :, offset] = key[position]
                    self.cache[1, block, :, offset] = value[position]
                if position >= old:
                    slots.append(block * self.block_size + offset)
            self.keys.append(key)
            self.values.append(value)
        self.slots = torch.tensor(slots + [-1] * self.padding, dtype=torch.int64)
        padded = self.tokens + self.padding
        self.query = torch.randn(padded, layer.heads, layer.size).to(self.dtype)
        self.new_key, self.new_value = (
            torch.cat(
                [
                    *(each[old:] for each, (_, old) in zip(whole, self.requests, strict=True)),
                    torch.full((self.padding, layer.kv_heads, layer.size), math.nan).to(self.dtype),
                ]
            )
            for whole in (self.keys, self.values)
        )
        self.output = torch.full_like(self.query, math.nan)

    def common(self, *, causal: bool = True) -> CommonAttentionMetadata:
        new = torch.tensor([0, *(new for new, _ in self.requests)])
        start = new.cumsum(0).to(torch.int32)
        lengths = torch.tensor([sum(each) for each in self.requests], dtype=torch.int32)
        return CommonAttentionMetadata(
            query_start_loc=start.clone(),
            query_start_loc_cpu=start,
            seq_lens=lengths.clone(),
            _seq_lens_cpu=lengths,
            num_reqs=len(self.requests),
            num_actual_tokens=self.tokens,
            max_query_len=int(new.max()),
            max_seq_len=int(lengths.max()),
            block_table_tensor=self.table,
            slot_mapping=self.slots,
            causal=causal,
        )

    def run(self, builder: KunlunAttentionMetadataBuilder | None = None) -> torch.Tensor:
        """The backend's output of the step's tokens ``[T, H, D]``."""
        causal = self.layer.kind == AttentionType.DECODER
        metadata = (builder or make_builder(self)).build(0, self.common(causal=causal))
        return self.run_with(metadata)

    def run_with(self, metadata: KunlunAttentionMetadata) -> torch.Tensor:
        returned = self.layer.implementation().forward(
            torch.nn.Module(),
            self.query,
            self.new_key,
            self.new_value,
            self.cache,
            metadata,
            self.output,
        )
        assert returned is self.output
        return self.output[: self.tokens]

    def expected(self) -> torch.Tensor:
        """The definition, one query and one head at a time, in float64."""
        layer = self.layer
        causal = layer.kind == AttentionType.DECODER
        rows = []
        token = 0
        for (new, old), key, value in zip(self.requests, self.keys, self.values, strict=True):
            for position in range(old, old + new):
                heads = []
                for head in range(layer.heads):
                    shared = head // (layer.heads // layer.kv_heads)
                    scores, seen = [], []
                    for other in range(len(key)):
                        if causal and other > position:
                            continue
                        if layer.window is not None and abs(position - other) >= layer.window:
                            continue
                        product = self.query[token, head].double() @ key[other, shared].double()
                        score = float(product) * layer.scale
                        if layer.soft_cap is not None:
                            score = layer.soft_cap * math.tanh(score / layer.soft_cap)
                        if layer.slopes is not None:
                            score += layer.slopes[head] * (other - position)
                        scores.append(score)
                        seen.append(value[other, shared].double())
                    sink = -math.inf if layer.sinks is None else float(layer.sinks[head])
                    largest = max(*scores, sink)
                    weights = [math.exp(score - largest) for score in scores]
                    total = sum(weights) + math.exp(sink - largest)
                    heads.append(sum(w * v for w, v in zip(weights, seen, strict=True)) / total)
                rows.append(torch.stack(heads))
                token += 1
        return torch.stack(rows)

    def check(self, got: torch.Tensor | None = None) -> None:
        got = self.run() if got is None else got
        tolerance = TOLERANCES[self.dtype]
        torch.testing.assert_close(
            got.double(), self.expected(), rtol=tolerance, atol=tolerance
        )  # fails on NaN too: nothing unowned may be read


@functools.cache
def plain_config() -> VllmConfig:
    return VllmConfig()


def make_builder(step: Step, speculative_tokens: int = 0) -> KunlunAttentionMetadataBuilder:
    spec = FullAttentionSpec(
        block_size=step.block_size,
        num_kv_heads=step.layer.kv_heads,
        head_size=step.layer.size,
        dtype=step.dtype,
    )
    config = plain_config()
    if speculative_tokens:
        config = copy.copy(config)
        config.speculative_config = SimpleNamespace(num_speculative_tokens=speculative_tokens)
    return KunlunAttentionMetadataBuilder(
        spec, ["model.layers.0.attn"], config, torch.device("cpu")
    )


# --------------------------------------------------------------------- what a step may hold


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


# ------------------------------------------------------------------------ what a layer may ask


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


@pytest.mark.parametrize("interleaved", [False, True], ids=["packed", "interleaved"])
@pytest.mark.parametrize("batch", sorted(BATCHES))
def test_alibi(batch: str, interleaved: bool) -> None:
    slopes = [0.5, 0.25, 0.125, 0.0625]
    Step(BATCHES[batch], Layer(slopes=slopes), interleaved=interleaved).check()


@pytest.mark.parametrize("interleaved", [False, True], ids=["packed", "interleaved"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("batch", sorted(BATCHES))
def test_soft_cap(batch: str, window: int | None, interleaved: bool) -> None:
    layer = Layer(soft_cap=1.5, window=window)
    Step(BATCHES[batch], layer, interleaved=interleaved).check()


def test_soft_cap_in_tiles_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_cap, "TILE_SCORES", 2_000)
    Step(CHUNKED, Layer(soft_cap=1.5)).check()


def test_soft_cap_with_speculative_queries() -> None:
    step = Step(SPECULATIVE, Layer(soft_cap=1.5))
    step.check(step.run(make_builder(step, speculative_tokens=2)))


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


# ------------------------------------------------------------------------------- refusals


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


# ------------------------------------------------------------------------------- metadata


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
    common._seq_lens_cpu = None
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


# -------------------------------------------------------------------------------- backend


def test_what_the_backend_says_of_itself() -> None:
    backend = KunlunAttentionBackend
    assert backend.get_kv_cache_shape(10, 16, 2, 64) == (2, 10, 2, 16, 64)
    assert backend.get_impl_cls() is KunlunAttentionImpl
    assert backend.get_builder_cls() is KunlunAttentionMetadataBuilder
    assert backend.supports_sink()
    assert backend.supports_head_size(64) and not backend.supports_head_size(72)
    assert not backend.supports_attn_type(AttentionType.ENCODER_DECODER)
