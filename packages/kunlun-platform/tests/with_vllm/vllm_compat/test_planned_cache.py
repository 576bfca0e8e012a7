# SPDX-License-Identifier: Apache-2.0
"""One step or three, with the same layers and the same bytes."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from vllm.distributed.kv_transfer.kv_connector import utils as connectors_utils
from vllm.v1.attention.backends import utils as backends_utils
from vllm.v1.core import kv_cache_utils

from vllm_kunlun.platforms.vllm_compat import planned_cache


def test_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_cache, "_HAS_PLANNING", False)
    monkeypatch.setattr(
        kv_cache_utils, "get_kv_cache_configs", lambda *given: list(given), raising=False
    )
    assert planned_cache.planned("config", [{}], [7]) == ["config", [{}], [7]]


def test_three_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_cache, "_HAS_PLANNING", True)
    module: Any = ModuleType("kv_cache_planning")
    module.get_global_kv_cache_groups = lambda config, layers: ("groups of", config, layers)
    module.get_kv_cache_configs = lambda *given: list(given)
    monkeypatch.setitem(sys.modules, "vllm.v1.core.kv_cache_planning", module)
    monkeypatch.setattr("vllm.v1.core.kv_cache_planning", module, raising=False)
    chosen: list[Any] = []
    for name, value in (
        ("get_supported_kv_cache_layouts", lambda backends: [SimpleNamespace(name=backends)]),
        ("resolve_kv_cache_layout", lambda *given: chosen.append(given)),
    ):
        monkeypatch.setattr(backends_utils, name, value, raising=False)
    monkeypatch.setattr(
        connectors_utils, "get_current_attn_backends", lambda config: f"of {config}", raising=False
    )
    layers: Any = [{"a": "spec"}, {}]
    groups = ("groups of", "config", layers)
    config: Any = "config"
    assert planned_cache.planned(config, layers, [7]) == ["config", layers, [7], groups]
    assert chosen == [("config", [["of config"]], ["spec"])]
