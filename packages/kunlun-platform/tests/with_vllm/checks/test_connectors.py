# SPDX-License-Identifier: Apache-2.0
"""Connectors between key-value caches: which are refused, and for which models."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

from vllm_kunlun.platforms.checks import connectors


def over(name: str, **more: Any) -> dict[str, Any]:
    return {"kv_transfer_config": {"kv_connector": name, "kv_role": "kv_both", **more}}


KNOWN = {connectors.FOLDER, connectors.OFFLOADING, *connectors.OTHERS}


def test_every_connector_of_vllm_is_known() -> None:
    assert KVConnectorFactory._registry.keys() == KNOWN


@pytest.mark.parametrize("more", [{}, {"kv_connector_module_path": "mine.connectors"}], ids=len)
@pytest.mark.parametrize("name", connectors.OTHERS)
def test_every_other_connector_of_vllm_is_refused_by_name(
    build: Any, name: str, more: dict[str, str]
) -> None:
    message = build.refusal(**over(name, **more))
    assert f"with {name}: its copies" in message
    assert "Use ExampleConnector" in message


@pytest.mark.parametrize("name", [connectors.FOLDER, connectors.OFFLOADING])
def test_those_through_the_host(build: Any, name: str) -> None:
    assert build(**over(name)).kv_transfer_config.kv_connector == name
    assert "recurrent states" in build.refusal(build.hybrid, **over(name))


def test_one_of_the_users_own(build: Any) -> None:
    own = over("Mine", kv_connector_module_path="mine.connectors")
    assert build(**own).kv_transfer_config.kv_connector == "Mine"


def test_one_of_the_users_own_that_is_registered(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = build.refusal(**over("Mine"))
    assert "with Mine: no connector of this name" in message
    assert "kv_connector_module_path" in message
    monkeypatch.setitem(KVConnectorFactory._registry, "Mine", lambda: object)
    assert build(**over("Mine")).kv_transfer_config.kv_connector == "Mine"
    assert "recurrent states" in build.refusal(build.hybrid, **over("Mine"))


def test_latent_attention(build: Any) -> None:
    assert build(build.latent, **over(connectors.FOLDER)).model_config.use_mla
    assert "latent attention" in build.refusal(build.latent, **over(connectors.OFFLOADING))
    sparse = build.latent | {"index_topk": 8}
    assert "indexer" in build.refusal(sparse, **over(connectors.FOLDER))


def test_the_option_of_which_vllm_makes_a_connector_later(build: Any) -> None:
    size = {"kv_offloading_size": 1.0}
    assert build(**size).kv_transfer_config.kv_connector == connectors.OFFLOADING
    native = "--kv-offloading-size with the backend native"
    message = build.refusal(build.hybrid, **size)
    assert native in message and "recurrent states" in message
    message = build.refusal(build.latent, **size)
    assert native in message and "latent attention" in message
    message = build.refusal(**size, kv_offloading_backend="lmcache")
    assert "with the backend lmcache: its copies" in message
