# SPDX-License-Identifier: Apache-2.0
"""The layer of a gated delta net: its op calls the layer, and its states are found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.model_executor.layers.mamba.abstract import MambaBase

from vllm_kunlun.ops.vllm_compat import delta_net_layer as compat


def test_the_class_is_one_of_layers_with_a_state() -> None:
    assert issubclass(compat.DeltaNetLayer, MambaBase)
    assert hasattr(compat.DeltaNetLayer, "_forward_core")


def test_the_op_calls_the_layer_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    class Layer:
        def _forward_core(
            self, mixed_qkv: Any, b: Any, a: Any, core_attn_out: torch.Tensor
        ) -> None:
            seen.append((mixed_qkv, b, a))
            core_attn_out.fill_(3)

    context = SimpleNamespace(no_compile_layers={"layers.7": Layer()})
    monkeypatch.setattr("vllm.forward_context._forward_context", context)
    given = torch.rand(2, 8), torch.rand(2, 4), torch.rand(2, 4)
    output = torch.zeros(2, 4, 5)
    compat.call_core(*given, output, "layers.7")
    assert (output == 3).all()
    for came, expected in zip(seen[0], given, strict=True):
        assert torch.equal(came, expected)


@pytest.mark.parametrize("shared", [False, True], ids=["0.15", "0.33"])
def test_states_of_a_layer(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(virtual_engine=1)
    monkeypatch.setattr(compat, "get_forward_context", lambda: context)
    monkeypatch.setattr(compat, "_SHARED", shared)
    pools = torch.rand(2), torch.rand(3)
    layer: Any = SimpleNamespace(kv_cache=pools if shared else [None, list(pools)])
    assert compat.states(layer) == pools
