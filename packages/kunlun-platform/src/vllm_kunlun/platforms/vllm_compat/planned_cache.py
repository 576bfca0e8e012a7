# SPDX-License-Identifier: Apache-2.0
"""vLLM's division of memory into a cache, which 0.33 keeps in three steps and in another module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_kunlun.platforms import version

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheSpec

__all__ = ["planned"]

_HAS_PLANNING = version.installed_is_from("0.33")


def planned(
    config: VllmConfig, layers: list[dict[str, KVCacheSpec]], available_bytes: list[int]
) -> list[KVCacheConfig]:
    """The cache of each worker, by what its layers keep and what it has left.

    The model's attention layers stand in ``config``, as building the model leaves them there.

    Raises: ValueError: one request of the longest length does not fit (vLLM's own error).
    """
    if _HAS_PLANNING:
        from vllm.distributed.kv_transfer.kv_connector.utils import get_current_attn_backends
        from vllm.v1.attention.backends import utils
        from vllm.v1.core import kv_cache_planning

        taken = utils.get_supported_kv_cache_layouts(get_current_attn_backends(config))
        specs = [spec for worker in layers for spec in worker.values()]
        utils.resolve_kv_cache_layout(config, [[layout.name for layout in taken]], specs)
        groups = kv_cache_planning.get_global_kv_cache_groups(config, layers)
        return kv_cache_planning.get_kv_cache_configs(config, layers, available_bytes, groups)
    from vllm.v1.core import kv_cache_utils

    return kv_cache_utils.get_kv_cache_configs(config, layers, available_bytes)
