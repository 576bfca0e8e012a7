# SPDX-License-Identifier: Apache-2.0
"""One step or two, with the same layers and the same bytes."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from vllm.v1.core import kv_cache_utils

from vllm_kunlun.platforms.vllm_compat import planned_cache


def test_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_cache, "_HAS_PLANNING", False)
    monkeypatch.setattr(
        kv_cache_utils, "get_kv_cache_configs", lambda *given: list(given), raising=False
    )
    assert planned_cache.planned("config", [{}], [7]) == ["config", [{}], [7]]


def test_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_cache, "_HAS_PLANNING", True)
    module: Any = ModuleType("kv_cache_planning")
    module.get_global_kv_cache_groups = lambda config, layers: ("groups of", config, layers)
    module.get_kv_cache_configs = lambda *given: list(given)
    monkeypatch.setitem(sys.modules, "vllm.v1.core.kv_cache_planning", module)
    monkeypatch.setattr("vllm.v1.core.kv_cache_planning", module, raising=False)
    groups = ("groups of", "config", [{}])
    assert planned_cache.planned("config", [{}], [7]) == ["config", [{}], [7], groups]
