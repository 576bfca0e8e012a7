# SPDX-License-Identifier: Apache-2.0
"""vLLM finds our connectors under its own names."""

from __future__ import annotations

import pytest
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.v1.kv_offload.factory import OffloadingSpecFactory

from vllm_kunlun.ops.kv_transfer import register_connectors
from vllm_kunlun.ops.kv_transfer.example_connector import KunlunExampleConnector

pytest.importorskip("vllm.v1.kv_offload.abstract", reason="refused by name with 0.33")

from vllm_kunlun.ops.kv_transfer.offloading import KunlunCPUOffloadingSpec


def test_twice_is_as_once() -> None:
    for _ in range(2):
        register_connectors()
        asked = KVTransferConfig(kv_connector="ExampleConnector", kv_role="kv_both")
        assert KVConnectorFactory.get_connector_class(asked) is KunlunExampleConnector
        assert OffloadingSpecFactory._registry["CPUOffloadingSpec"]() is KunlunCPUOffloadingSpec
