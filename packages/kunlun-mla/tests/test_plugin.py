# SPDX-License-Identifier: Apache-2.0
"""Registration: by entry point, twice, and only on our platform."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
import torch
from vllm import platforms
from vllm.model_executor import custom_op
from vllm.platforms.interface import UnspecifiedPlatform

from vllm_kunlun.mla.flashmla import FlashMLABackend
from vllm_kunlun.mla.flashmla_sparse import FlashMLASparseBackend
from vllm_kunlun.mla.indexer import KunlunSparseAttnIndexer
from vllm_kunlun.platforms.checks import attention_backends
from vllm_kunlun.platforms.kunlun import KunlunPlatform


def _register() -> None:
    group = entry_points(group="vllm.general_plugins")
    next(entry for entry in group if entry.name == "kunlun_mla").load()()


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(custom_op, "op_registry_oot", {})
    return custom_op.op_registry_oot


def test_entry_point_registers_twice(registry, monkeypatch):
    monkeypatch.setattr(platforms, "_current_platform", KunlunPlatform())
    _register()
    _register()
    assert registry == {"SparseAttnIndexer": KunlunSparseAttnIndexer}


def test_another_platform_keeps_its_layers(registry, monkeypatch):
    monkeypatch.setattr(platforms, "_current_platform", UnspecifiedPlatform())
    _register()
    assert registry == {}


@pytest.mark.parametrize(
    ("kind", "backend"), [("mla", FlashMLABackend), ("mla_sparse", FlashMLASparseBackend)]
)
def test_backends_are_found_by_entry_point(kind, backend):
    assert attention_backends.find(kind).load() is backend
    assert backend.is_mla()
    assert backend.is_sparse() is (kind == "mla_sparse")
    assert backend.supports_block_size(64)
    assert not backend.supports_block_size(16)
    assert all(backend.supports_head_size(size) for size in (64, 576))


def test_the_ops_that_split_a_graph_have_the_names_that_are_given() -> None:
    """The platform splits at ``vllm::<name>`` and loads nothing."""
    group = entry_points(group="vllm_kunlun.splitting_ops")
    own = [entry for entry in group if entry.value.startswith("vllm_kunlun.mla.")]
    assert own
    for entry in own:
        op = getattr(torch.ops.vllm, entry.name).default
        assert entry.load().implementation is op.implementation
