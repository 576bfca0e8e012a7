# SPDX-License-Identifier: Apache-2.0
"""The indexer's op, driven as vLLM's runner drives it, against the formula in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.forward_context import override_forward_context
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.kv_cache_interface import MLAAttentionSpec
from vllm.v1.worker.workspace import init_workspace_manager, reset_workspace_manager

from vllm_kunlun.mla import indexer, indexer_metadata
from vllm_kunlun.mla.indexer import sparse_attn_indexer_vllm_kunlun
from vllm_kunlun.mla.indexer_metadata import KunlunIndexerBackend
from vllm_kunlun.mla.vllm_compat import indexer_parts
from vllm_kunlun.ops import check_op
from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS

HEADS, WIDTH, BLOCK, TOPK = 3, 32, 64, 12
BATCHES = {
    "prefill": [(7, 0), (1, 0), (70, 0)],
    "decode": [(1, 0), (1, 63), (1, 64), (1, 200)],
    "mixed": [(1, 5), (1, 140), (9, 0), (20, 0)],
    "context": [(1, 12), (8, 240), (5, 0), (17, 31)],
    "two queries each": [(2, 3), (2, 130)],
}


@pytest.fixture(autouse=True)
def _workspace():
    init_workspace_manager(torch.device("cpu"))
    yield
    reset_workspace_manager()


class Batch:
    """Random queries and keys; the first step writes what later belongs to the cache."""

    def __init__(self, requests, speculative_tokens=0):
        self.requests = requests
        generator = torch.Generator().manual_seed(5)
        self.lengths = [new + old for new, old in requests]
        self.keys = [torch.randn(length, WIDTH, generator=generator) for length in self.lengths]
        tokens = sum(new for new, _ in requests)
        self.query = torch.randn(tokens, HEADS, WIDTH, generator=generator)
        self.weights = torch.randn(tokens, HEADS, generator=generator)
        columns = -(-max(self.lengths) // BLOCK)
        blocks = len(requests) * columns + 1
        order = torch.randperm(blocks, generator=generator)
        self.table = order[: len(requests) * columns].view(-1, columns).int()
        self.cache = torch.full((blocks, BLOCK, WIDTH + 4), 0x7F, dtype=torch.uint8)
        self.configuration = SimpleNamespace(
            speculative_config=SimpleNamespace(
                num_speculative_tokens=speculative_tokens, parallel_drafting=False
            )
            if speculative_tokens
            else None,
            parallel_config=SimpleNamespace(decode_context_parallel_size=1),
            model_config=SimpleNamespace(max_model_len=256),
            attention_config=SimpleNamespace(sparse_mla_prefill_workspace_factor=1),
        )

    def run(self) -> torch.Tensor:
        """Positions, ``[T, TOPK]``; the keys before this step are written by one before it."""
        before = [(old, 0) for _, old in self.requests]
        if any(old for old, _ in before):
            self._call([key[:old] for key, (old, _) in zip(self.keys, before, strict=True)], before)
        new = [key[old:] for key, (_, old) in zip(self.keys, self.requests, strict=True)]
        return self._call(new, self.requests, self.query, self.weights)

    def context(self, requests):
        query_lens = torch.tensor([new for new, _ in requests], dtype=torch.int32)
        lod = torch.cat([query_lens.new_zeros(1), query_lens.cumsum(0).int()])
        lengths = torch.tensor([new + old for new, old in requests], dtype=torch.int32)
        position = [torch.arange(old, old + new) for new, old in requests]
        slots = torch.cat(
            [table[p // BLOCK] * BLOCK + p % BLOCK
             for table, p in zip(self.table.long(), position, strict=True)]
        )  # fmt: skip
        spec = MLAAttentionSpec(
            block_size=BLOCK, num_kv_heads=1, head_size=WIDTH + 4, dtype=torch.uint8
        )
        builder = KunlunIndexerBackend.get_builder_cls()(
            spec, ["cache"], self.configuration, torch.device("cpu")
        )
        step = CommonAttentionMetadata(
            query_start_loc=lod.clone(),
            query_start_loc_cpu=lod,
            seq_lens=lengths.clone(),
            num_reqs=len(requests),
            num_actual_tokens=len(slots),
            max_query_len=int(query_lens.max()),
            max_seq_len=int(lengths.max()),
            block_table_tensor=self.table,
            slot_mapping=slots,
            **{SEQ_LENS: lengths},
        )
        # As the model runner binds it: one of a list until 0.16.
        bound = self.cache if indexer_parts._ONE_PROJECTION else [self.cache]
        return SimpleNamespace(
            attn_metadata={"cache": builder.build(0, step)},
            no_compile_layers={"cache": SimpleNamespace(kv_cache=bound)},
            virtual_engine=0,
        )

    def _call(self, keys, requests, query=None, weights=None):
        live = [index for index, (new, _) in enumerate(requests) if new]
        table, self.table = self.table, self.table[live]
        key = torch.cat([keys[index] for index in live])
        query = torch.zeros(len(key), HEADS, WIDTH) if query is None else query
        weights = torch.zeros(len(key), HEADS) if weights is None else weights
        best = torch.full((len(key) + 3, TOPK), -7, dtype=torch.int32)
        with override_forward_context(self.context([requests[index] for index in live])):
            sparse_attn_indexer_vllm_kunlun(query, key, weights, best, 256, "cache")
        self.table = table
        assert (best[len(key) :] == -7).all()
        return best[: len(key)]

    def check(self, positions: torch.Tensor) -> None:
        """Each row holds different positions, whose scores are the best; -1 where there are few.

        Scores and not positions are compared: where every product is negative, keys tie at 0.
        """
        token = 0
        for keys, (new, old) in zip(self.keys, self.requests, strict=True):
            rounded = _int8(keys.double())
            for position in range(old, old + new):
                query = _int8(self.query[token].double())
                scores = torch.relu(query @ rounded[: position + 1].T)
                scores = self.weights[token].double() @ scores
                count = min(TOPK, position + 1)
                chosen = positions[token][positions[token] >= 0]
                assert len(chosen) == len(chosen.unique()) == count
                torch.testing.assert_close(
                    scores[chosen.long()].sort().values, scores.topk(count).values.sort().values
                )
                token += 1


def _int8(x):
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round() * scale


@pytest.mark.parametrize("speculative_tokens", [0, 1, 3])
@pytest.mark.parametrize("name", BATCHES)
def test_positions(name, speculative_tokens):
    batch = Batch(BATCHES[name], speculative_tokens)
    batch.check(batch.run())


@pytest.mark.parametrize("name", ["prefill", "context"])
def test_groups_of_keys_and_tiles_of_queries_change_nothing(name, monkeypatch):
    monkeypatch.setattr(indexer_metadata, "MAX_LOGITS", 300)
    monkeypatch.setattr(indexer_metadata, "get_max_prefill_buffer_size", lambda config: 250)
    batch = Batch(BATCHES[name])
    groups = batch.context(batch.requests).attn_metadata["cache"].prefill
    assert max(len(group.tiles) for group in groups) > 1
    assert name == "prefill" or len(groups) > 1
    batch.check(batch.run())


def test_the_declaration_of_the_op():
    batch = Batch(BATCHES["prefill"])
    key = torch.cat(batch.keys)
    best = torch.full((len(key), TOPK), -7, dtype=torch.int32)
    with override_forward_context(batch.context(batch.requests)):
        check_op(
            sparse_attn_indexer_vllm_kunlun, batch.query, key, batch.weights, best, 256, "cache"
        )


def test_profiling_run_touches_nothing():
    best = torch.full((2, TOPK), -7, dtype=torch.int32)
    with override_forward_context(SimpleNamespace(attn_metadata=None)):
        sparse_attn_indexer_vllm_kunlun(
            torch.zeros(2, HEADS, WIDTH), torch.zeros(2, WIDTH), torch.zeros(2, HEADS), best, 8, "x"
        )
    assert (best == -7).all()


def test_head_weights_carry_the_scales_of_the_queries():
    """But for their common 127, and in float32 whatever the weights are in."""
    q = torch.tensor([[[127.0, -63.0], [2.54, 1.0]]])
    values, weights = indexer._quantised(q, torch.tensor([[2.0, 10.0]]).half())
    assert values.tolist() == [[[127, -63], [127, 50]]]
    torch.testing.assert_close(weights, torch.tensor([[254.0, 25.4]]))
