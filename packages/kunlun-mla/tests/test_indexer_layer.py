# SPDX-License-Identifier: Apache-2.0
"""vLLM's indexer in a model becomes ours where it stands."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb
from vllm.model_executor.models.deepseek_v2 import DeepseekV32IndexerCache, Indexer

from vllm_kunlun.mla.indexer_layer import KunlunIndexer, KunlunIndexerCache, replace_indexers
from vllm_kunlun.mla.indexer_metadata import KunlunIndexerBackend
from vllm_kunlun.mla.vllm_compat import indexer_parts

HEADS, WIDTH, ROPE, HIDDEN, TOKENS = 2, 8, 4, 6, 3


def bare(kind, **attributes):
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def indexer():
    torch.manual_seed(0)

    class Pair(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x), None

    return bare(
        Indexer, k_cache=bare(DeepseekV32IndexerCache), wq_b=Pair(5, HEADS * WIDTH),
        wk=Pair(HIDDEN, WIDTH), k_norm=torch.nn.LayerNorm(WIDTH), weights_proj=Pair(HIDDEN, HEADS),
        n_head=HEADS, head_dim=WIDTH, rope_dim=ROPE, softmax_scale=WIDTH**-0.5,
    )  # fmt: skip


def test_every_indexer_and_its_cache_is_replaced(indexer):
    plain = torch.nn.Linear(1, 1)
    before = {name: p.data_ptr() for name, p in indexer.named_parameters()}
    replace_indexers(torch.nn.ModuleList([plain, indexer]))
    assert type(indexer) is KunlunIndexer
    assert type(indexer.k_cache) is KunlunIndexerCache
    assert indexer.k_cache.get_attn_backend() is KunlunIndexerBackend
    assert type(plain) is torch.nn.Linear
    assert {name: p.data_ptr() for name, p in indexer.named_parameters()} == before


@pytest.mark.parametrize("is_neox", [True, False])
@torch.no_grad()
def test_what_the_op_is_given(indexer, is_neox):
    """vLLM's own queries, keys and weights, but for a factor that is common to all weights."""
    replace_indexers(indexer)
    given = {}
    if indexer_parts._ONE_PROJECTION:
        both = torch.nn.Linear(HIDDEN, WIDTH + HEADS)
        for name, parameter in both.named_parameters():
            parts = (getattr(each, name) for each in (indexer.wk, indexer.weights_proj))
            parameter.copy_(torch.cat(list(parts)))
        indexer.wk_weights_proj = lambda hidden: (both(hidden), None)
    indexer.indexer_op = lambda hidden, q, k, weights: given.update(q=q, k=k, weights=weights)
    hidden, qr = torch.randn(TOKENS, HIDDEN), torch.randn(TOKENS, 5)
    positions = torch.tensor([5, 0, 2])
    angles = torch.rand(8, ROPE // 2)
    table = torch.cat([angles.cos(), angles.sin()], -1)
    rotary = SimpleNamespace(cos_sin_cache=table, is_neox_style=is_neox)
    indexer(hidden, qr, positions, rotary)
    parts = []
    for heads in (indexer.wq_b(qr)[0].view(TOKENS, HEADS, WIDTH),
                  indexer.k_norm(indexer.wk(hidden)[0]).unsqueeze(1)):  # fmt: skip
        turning, rest = heads.split([ROPE, WIDTH - ROPE], -1)
        cos, sin = (each[positions] for each in (angles.cos(), angles.sin()))
        turned = ApplyRotaryEmb.forward_static(turning, cos, sin, is_neox)
        parts.append(torch.cat([turned, rest], -1))
    weights = indexer.weights_proj(hidden)[0]
    torch.testing.assert_close(given, {"q": parts[0], "k": parts[1].squeeze(1), "weights": weights})
