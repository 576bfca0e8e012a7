# SPDX-License-Identifier: Apache-2.0
"""The gated delta net's states, its weights in their order, and what it does without requests."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.models.qwen import qwen3_next_gdn
from vllm_kunlun.models.qwen.qwen3_next_gdn import KunlunQwen3NextGatedDeltaNet, reordered
from vllm_kunlun.ops.gdn.metadata import KunlunGDNAttentionBackend
from vllm_kunlun.ops.vllm_compat.delta_net_layer import DeltaNetLayer

HEADS, GROUP, KEY, VALUE, HIDDEN = 4, 2, 3, 5, 6
CONFIG = SimpleNamespace(
    linear_num_key_heads=HEADS,
    linear_num_value_heads=GROUP * HEADS,
    linear_key_head_dim=KEY,
    linear_value_head_dim=VALUE,
)


def layer(ranks=1):
    made = KunlunQwen3NextGatedDeltaNet.__new__(KunlunQwen3NextGatedDeltaNet)
    torch.nn.Module.__init__(made)
    made.num_k_heads, made.num_v_heads, made.tp_size = HEADS, GROUP * HEADS, ranks
    made.head_k_dim, made.head_v_dim = KEY, VALUE
    return made


@pytest.mark.parametrize("theirs", [(KEY, VALUE), (VALUE, KEY)], ids=["0.15", "0.16"])
def test_a_state_has_values_before_keys(theirs, monkeypatch):
    shapes = ((3, 640), (8, *theirs))
    monkeypatch.setattr(DeltaNetLayer, "get_state_shape", lambda self: shapes)
    assert layer().get_state_shape() == ((3, 640), (8, VALUE, KEY))
    assert layer().get_attn_backend() is KunlunGDNAttentionBackend


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_reordered_weights_give_what_vllm_sorts_out_of_results(ranks):
    """On each rank, from its share of neighbouring rows."""
    torch.manual_seed(0)
    x = torch.randn(7, HIDDEN).double()
    qkvz = torch.randn(2 * HEADS * (KEY + GROUP * VALUE), HIDDEN).double()
    ba = torch.randn(2 * GROUP * HEADS, HIDDEN).double()
    given = {"net.in_proj_qkvz.weight": qkvz, "net.in_proj_ba.weight": ba}
    ours = {name: made for each in given.items() for name, made in reordered(*each, CONFIG, ranks)}
    assert list(ours) == [
        "net.in_proj_qkv.weight", "net.in_proj_z.weight", "net.in_proj_ba.weight"
    ]  # fmt: skip
    for rank in range(ranks):

        def projection(weight, rank=rank):
            return lambda x: (x @ weight.chunk(ranks)[rank].T, None)

        theirs, mine = layer(ranks), layer(ranks)
        theirs.in_proj_qkvz, theirs.in_proj_ba = map(projection, given.values())
        mine.in_proj_qkv, mine.in_proj_z, mine.in_proj_ba = map(projection, ours.values())
        for came, expected in zip(mine._projected(x), theirs._projected(x), strict=True):
            torch.testing.assert_close(came, expected.flatten(1))


@pytest.mark.parametrize("name", ["net.conv1d.weight", "mlp.gate.weight", "net.A_log"])
def test_other_weights_pass(name):
    weight = torch.ones(3)
    assert [*reordered(name, weight, CONFIG, 2)] == [(name, weight)]


@pytest.mark.parametrize(
    ("profiled", "cache", "runs"), [(7, False, 1), (0, False, 0), (7, True, 0)]
)
def test_a_run_without_requests_is_measured_once(monkeypatch, profiled, cache, runs):
    """In the layer that profiles, and no more once the cache is there."""
    context = SimpleNamespace(attn_metadata=None)
    monkeypatch.setattr(qwen3_next_gdn, "get_forward_context", lambda: context)
    ran = []
    monkeypatch.setattr(
        KunlunQwen3NextGatedDeltaNet, "_run_widest_step", lambda self, *given: ran.append(given)
    )
    ours = layer()
    ours.profiled_requests = profiled
    if cache:
        ours.kv_cache = []
    given = tuple(torch.full((1,), torch.nan) for _ in range(4))
    ours._forward_core(*given)
    assert len(ran) == runs
    assert given[3] == 0
