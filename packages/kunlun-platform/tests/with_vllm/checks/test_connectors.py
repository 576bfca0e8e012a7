# SPDX-License-Identifier: Apache-2.0
"""Connectors between key-value caches: which are refused, and for which models."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.checks import connectors


def over(name: str, **more: Any) -> dict[str, Any]:
    return {"kv_transfer_config": {"kv_connector": name, "kv_role": "kv_both", **more}}


KNOWN = {connectors.FOLDER, connectors.OFFLOADING, *connectors.OTHERS}
OF_SOME_RELEASES = {
    "ExampleHiddenStatesConnector",
    "FlexKVConnectorV1",
    "HF3FSKVConnector",
    "HiSparseConnector",
    "MooncakeStoreConnector",
    "NixlPullConnector",
    "NixlPushConnector",
    "P2pNcclConnector",
    "SimpleCPUOffloadConnector",
}
"""Those that not every release has."""
runs = pytest.mark.skipif(
    version.installed_is_from("0.33"),
    reason="with 0.33 every connector is refused by name (vllm_compat/not_yet.py)",
)


def test_every_connector_of_vllm_is_known() -> None:
    assert KVConnectorFactory._registry.keys() | OF_SOME_RELEASES == KNOWN


@pytest.mark.parametrize("more", [{}, {"kv_connector_module_path": "mine.connectors"}], ids=len)
@pytest.mark.parametrize("name", connectors.OTHERS)
def test_every_other_connector_of_vllm_is_refused_by_name(
    build: Any, name: str, more: dict[str, str]
) -> None:
    message = build.refusal(**over(name, **more))
    if "HiSparse currently requires NVIDIA CUDA" in message:  # vLLM's own refusal comes first
        return
    assert f"with {name}: its copies" in message
    assert "Use ExampleConnector" in message


THROUGH_THE_HOST = pytest.mark.parametrize("name", [connectors.FOLDER, connectors.OFFLOADING])


@runs
@THROUGH_THE_HOST
def test_those_through_the_host(build: Any, name: str) -> None:
    assert build(**over(name)).kv_transfer_config.kv_connector == name


@THROUGH_THE_HOST
def test_states_go_through_none(build: Any, name: str) -> None:
    assert "recurrent states" in build.refusal(build.hybrid, **over(name))


@runs
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
    assert "recurrent states" in build.refusal(build.hybrid, **over("Mine"))


@runs
def test_the_name_of_one_that_is_registered(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KVConnectorFactory._registry, "Mine", lambda: object)
    assert build(**over("Mine")).kv_transfer_config.kv_connector == "Mine"


@runs
def test_latent_attention_over_a_folder(build: Any) -> None:
    assert build(build.latent, **over(connectors.FOLDER)).model_config.use_mla


def test_latent_attention(build: Any) -> None:
    assert "latent attention" in build.refusal(build.latent, **over(connectors.OFFLOADING))
    sparse = build.latent | {"index_topk": 8}
    assert "indexer" in build.refusal(sparse, **over(connectors.FOLDER))


@runs
def test_the_option_of_which_vllm_makes_a_connector_later(build: Any) -> None:
    made = build(kv_offloading_size=1.0).kv_transfer_config
    assert made.kv_connector == connectors.OFFLOADING


def test_that_option_is_refused_as_the_connector_is(build: Any) -> None:
    size = {"kv_offloading_size": 1.0}
    native = "--kv-offloading-size with the backend native"
    message = build.refusal(build.hybrid, **size)
    assert native in message and "recurrent states" in message
    message = build.refusal(build.latent, **size)
    assert native in message and "latent attention" in message
    message = build.refusal(**size, kv_offloading_backend="lmcache")
    assert "with the backend lmcache: its copies" in message
