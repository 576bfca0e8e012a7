# SPDX-License-Identifier: Apache-2.0
"""An indexer of either form gives the same keys and weights, and a layer of either its cache."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.mla.vllm_compat import indexer_parts

HIDDEN, WIDTH, HEADS = 6, 8, 3


class Projection(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x), None


@pytest.fixture(params=[False, True], ids=["0.16.0", "0.33.0"])
def one_projection(request, monkeypatch):
    monkeypatch.setattr(indexer_parts, "_ONE_PROJECTION", request.param)
    return request.param


@torch.no_grad()
def test_keys_and_weights(one_projection):
    keys, weights = Projection(HIDDEN, WIDTH, False), Projection(HIDDEN, HEADS, False)
    both = Projection(HIDDEN, WIDTH + HEADS, False)
    both.weight.copy_(torch.cat([keys.weight, weights.weight]))
    of_both = {"wk_weights_proj": both, "head_dim": WIDTH, "n_head": HEADS}
    of_each = {"wk": keys, "weights_proj": weights}
    indexer = SimpleNamespace(**(of_both if one_projection else of_each))
    x = torch.randn(4, HIDDEN)
    found = indexer_parts.keys_and_weights(indexer, x)
    torch.testing.assert_close(found, (keys(x)[0], weights(x)[0]))
    traced = torch.compile(indexer_parts.keys_and_weights, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(indexer, x), found)


def test_cache(one_projection):
    cache = torch.zeros(3, 4, 5)
    held = cache if one_projection else [None, cache]
    context = SimpleNamespace(
        no_compile_layers={"layer": SimpleNamespace(kv_cache=held)}, virtual_engine=1
    )
    assert indexer_parts.cache_of(context, "layer") is cache
