# SPDX-License-Identifier: Apache-2.0
"""Transfers of weights: vLLM's own are refused, a user's own is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vllm_kunlun.platforms.checks import weight_transfer
from vllm_kunlun.platforms.errors import UnsupportedError


def over(backend: str) -> Any:
    return SimpleNamespace(weight_transfer_config=SimpleNamespace(backend=backend))


@pytest.mark.parametrize("backend", sorted(weight_transfer.BACKENDS))
def test_vllms_own_is_refused_by_name(backend: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"with {backend}: .*load_weights over RPC"):
        weight_transfer.check(over(backend))


def test_every_backend_of_vllm_is_known() -> None:
    module = pytest.importorskip("vllm.distributed.weight_transfer", reason="vLLM 0.15 lacks it")
    assert module.WeightTransferEngineFactory._registry.keys() <= weight_transfer.BACKENDS


def test_what_is_not_asked_for_or_the_users_own() -> None:
    for asked in (SimpleNamespace(), SimpleNamespace(weight_transfer_config=None), over("mine")):
        weight_transfer.check(asked)


def test_it_is_asked(build: Any) -> None:
    config = pytest.importorskip("vllm.config.weight_transfer", reason="vLLM 0.15 lacks it")
    asked = {"weight_transfer_config": config.WeightTransferConfig(backend="nccl")}
    assert "--weight-transfer-config with nccl" in build.refusal(**asked)
