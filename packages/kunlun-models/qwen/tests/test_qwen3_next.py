# SPDX-License-Identifier: Apache-2.0
"""What of Qwen3-Next is ours: the layout of states, the dtype of gates, and who profiles."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.models.qwen3_next import Qwen3NextForCausalLM, Qwen3NextGatedDeltaNet

from vllm_kunlun.models.qwen import qwen3_next
from vllm_kunlun.models.qwen.qwen3_next import (
    KunlunQwen3NextForCausalLM,
    KunlunQwen3NextGatedDeltaNet,
)
from vllm_kunlun.ops.gdn.metadata import KunlunGDNAttentionBackend

THEIRS = ((3, 640), (8, 24, 16))
OURS = ((3, 640), (8, 16, 24))


def layer(kind=Qwen3NextGatedDeltaNet):
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    made.A_log = torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
    made.dt_bias = torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
    return made


def test_a_state_has_values_before_keys(monkeypatch):
    monkeypatch.setattr(Qwen3NextGatedDeltaNet, "get_state_shape", lambda self: THEIRS)
    ours = layer(KunlunQwen3NextGatedDeltaNet)
    assert ours.get_state_shape() == OURS
    assert ours.get_attn_backend() is KunlunGDNAttentionBackend


def test_the_configuration_gives_the_same_shape_after_drafts_were_checked(monkeypatch):
    checked = []
    monkeypatch.setattr(qwen3_next, "check_drafts", checked.append)
    monkeypatch.setattr(
        Qwen3NextForCausalLM,
        "get_mamba_state_shape_from_config",
        classmethod(lambda cls, vllm_config: THEIRS),
    )
    assert KunlunQwen3NextForCausalLM.get_mamba_state_shape_from_config("config") == OURS
    assert checked == ["config"]


def test_linear_layers_become_ours_and_the_first_one_is_profiled(monkeypatch):
    layers = [layer(), torch.nn.Linear(1, 1), layer()]

    def build(self, *, vllm_config, prefix):
        torch.nn.Module.__init__(self)
        self.model = SimpleNamespace(modules=lambda: iter(layers))

    monkeypatch.setattr(Qwen3NextForCausalLM, "__init__", build)
    config = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=7))
    KunlunQwen3NextForCausalLM(vllm_config=config)
    first, other, last = layers
    assert type(other) is torch.nn.Linear
    for each in (first, last):
        assert type(each) is KunlunQwen3NextGatedDeltaNet
        assert each.A_log.dtype == each.dt_bias.dtype == torch.float32
    assert (first.profiled_requests, last.profiled_requests) == (7, 0)


@pytest.mark.parametrize(
    ("profiled", "cache", "runs"), [(7, False, 1), (0, False, 0), (7, True, 0)]
)
def test_a_run_without_requests_is_measured_once(monkeypatch, profiled, cache, runs):
    """In the layer that profiles, and no more once the cache is there."""
    context = SimpleNamespace(attn_metadata=None)
    monkeypatch.setattr(qwen3_next, "get_forward_context", lambda: context)
    ran = []
    monkeypatch.setattr(
        KunlunQwen3NextGatedDeltaNet, "_run_widest_step", lambda self, *given: ran.append(given)
    )
    ours = layer(KunlunQwen3NextGatedDeltaNet)
    ours.profiled_requests = profiled
    if cache:
        ours.kv_cache = []
    given = tuple(torch.zeros(1) for _ in range(4))
    ours._forward_core(*given)
    assert len(ran) == runs
