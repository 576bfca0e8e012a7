# SPDX-License-Identifier: Apache-2.0
"""Which of vLLM's connectors are ours, under vLLM's own names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.v1.kv_offload.factory import OffloadingSpecFactory

__all__ = ["register_connectors"]

_HERE = "vllm_kunlun.ops.kv_transfer"


def register_connectors() -> None:
    """Put our classes into vLLM's registries; their modules are imported when used. Re-entrant."""
    KVConnectorFactory._registry["ExampleConnector"] = _later(
        f"{_HERE}.example_connector", "KunlunExampleConnector"
    )
    OffloadingSpecFactory._registry["CPUOffloadingSpec"] = _later(
        f"{_HERE}.offloading", "KunlunCPUOffloadingSpec"
    )


def _later(module: str, name: str) -> Callable[[], type[Any]]:
    def load() -> type[Any]:
        found: type[Any] = getattr(importlib.import_module(module), name)
        return found

    return load
