# SPDX-License-Identifier: Apache-2.0
"""Steps of random requests for the dense attention backend, and the definition in float64.

A case is a list of requests ``(query tokens, tokens already in the cache)``. The cache and the new
tokens are random, pages are handed out in random order, and memory that no request owns is NaN.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from vllm.config import VllmConfig
from vllm.v1.attention.backend import AttentionType, CommonAttentionMetadata
from vllm.v1.kv_cache_interface import FullAttentionSpec

from vllm_kunlun.ops.attention.backend import KunlunAttentionBackend
from vllm_kunlun.ops.attention.implementation import KunlunAttentionImpl
from vllm_kunlun.ops.attention.metadata import (
    KunlunAttentionMetadata,
    KunlunAttentionMetadataBuilder,
)
from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS

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


def speculation(tokens: int) -> SimpleNamespace | None:
    """What builders of metadata read of a configuration that drafts so many tokens; None for 0."""
    if not tokens:
        return None
    return SimpleNamespace(
        num_speculative_tokens=tokens, parallel_drafting=False, use_eagle_block_drop=lambda: False
    )


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
            num_reqs=len(self.requests),
            num_actual_tokens=self.tokens,
            max_query_len=int(new.max()),
            max_seq_len=int(lengths.max()),
            block_table_tensor=self.table,
            slot_mapping=self.slots,
            causal=causal,
            **{SEQ_LENS: lengths},
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
        config.speculative_config = speculation(speculative_tokens)
    return KunlunAttentionMetadataBuilder(
        spec, ["model.layers.0.attn"], config, torch.device("cpu")
    )
