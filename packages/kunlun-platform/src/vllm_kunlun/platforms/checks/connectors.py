# SPDX-License-Identifier: Apache-2.0
"""Key-value connectors that do not know this platform's caches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms.checks.cache import is_hybrid
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

__all__ = ["FOLDER", "OFFLOADING", "OTHERS", "check"]

FOLDER = "ExampleConnector"
"""Over a shared folder: prompts are read in one engine, and answered in another."""
OFFLOADING = "OffloadingConnector"
"""Pages that leave the device's cache stay in host memory."""
_LMCACHE = "LMCacheConnectorV1"
OTHERS = (
    "DecodeBenchConnector",
    "ExampleHiddenStatesConnector",
    "FlexKVConnectorV1",
    "HF3FSKVConnector",
    "HiSparseConnector",
    _LMCACHE,
    "LMCacheMPConnector",
    "MoRIIOConnector",
    "MooncakeConnector",
    "MooncakeStoreConnector",
    "MultiConnector",
    "NixlConnector",
    "NixlPullConnector",
    "NixlPushConnector",
    "P2pNcclConnector",
    "SimpleCPUOffloadConnector",
)
"""What vLLM has besides, in one release or another. Some of them cannot be imported without CUDA's
libraries, to be judged by their class."""


def check(config: VllmConfig) -> None:
    """Refuse a connector whose copies would be wrong or need CUDA; one of the user's own may come.

    The user's own is registered with vLLM, or its module is given. Where a name is registered, vLLM
    does not look at the module.

    Raises:
        UnsupportedError: naming the connector and the alternative.
    """
    transfer, model = config.kv_transfer_config, config.model_config
    name, option = _asked_for(config)
    if name is None or model is None:
        return
    if name in OTHERS:
        raise UnsupportedError(
            f"{option}: its copies are made by libraries of CUDA, or take pages for another "
            f"layout than the vendor's. Use {FOLDER} (a shared folder) or {OFFLOADING} (host "
            "memory)."
        )
    module = None if transfer is None else transfer.kv_connector_module_path
    if module is None and not _is_registered(name):
        raise UnsupportedError(
            f"{option}: no connector of this name is registered with vLLM. Correct the name, or "
            "name the module that has the class in kv_connector_module_path."
        )
    if is_hybrid(config):
        raise UnsupportedError(
            f"{option}: {model.architecture} keeps recurrent states, of which connectors know "
            "nothing. Leave it out."
        )
    if name == OFFLOADING and model.use_mla:
        raise UnsupportedError(
            f"{option}: vLLM's {OFFLOADING} looks for layers of ordinary attention only, and "
            f"{model.architecture} has latent attention. Use {FOLDER}, or leave it out."
        )
    if name == FOLDER and hasattr(model.hf_text_config, "index_topk"):
        raise UnsupportedError(
            f"{option}: vLLM stores what attention layers hold, and not the keys of "
            f"{model.architecture}'s indexer. Leave it out."
        )


def _asked_for(config: VllmConfig) -> tuple[str | None, str]:
    """The connector's name, if there is one, and the option that asks for it.

    vLLM makes a connector of ``--kv-offloading-size`` once the platform has been asked.
    """
    cache, transfer = config.cache_config, config.kv_transfer_config
    if cache.kv_offloading_size is not None:
        backend = cache.kv_offloading_backend
        made = OFFLOADING if backend == "native" else _LMCACHE
        return made, f"--kv-offloading-size with the backend {backend}"
    name = None if transfer is None else transfer.kv_connector
    return name, f"--kv-transfer-config with {name}"


def _is_registered(name: str) -> bool:
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    return name in KVConnectorFactory._registry
