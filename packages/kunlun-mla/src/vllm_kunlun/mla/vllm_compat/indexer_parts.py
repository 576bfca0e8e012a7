# SPDX-License-Identifier: Apache-2.0
"""Where vLLM's indexer keeps its projections and its cache.

Until 0.16 keys and the weights of heads have a projection each, and a cache is one of a list, of
which a step names the number. 0.33 has one projection for both, and binds the cache itself.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vllm_kunlun.platforms import version

__all__ = ["cache_of", "is_asked_at_each_pass", "keys_and_weights"]

_ONE_PROJECTION = version.installed_is_from("0.33")


def is_asked_at_each_pass() -> bool:
    """Whether vLLM asks a draft's indexer, too, for the metadata of each pass of a proposal.

    Until 0.16 it asks once for a whole proposal.
    """
    return _ONE_PROJECTION


def keys_and_weights(indexer: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """Keys before their norm ``[T, D]`` and weights of heads ``[T, H]`` of ``[T, hidden]``."""
    if not _ONE_PROJECTION:
        return indexer.wk(hidden_states)[0], indexer.weights_proj(hidden_states)[0]
    both = indexer.wk_weights_proj(hidden_states)[0]
    keys, weights = both.split([indexer.head_dim, indexer.n_head], -1)
    return keys, weights


def cache_of(context: Any, layer_name: str) -> Tensor:
    """The cache of a layer in a step's context: uint8 ``[blocks, block size, bytes of a row]``."""
    cache: Any = context.no_compile_layers[layer_name].kv_cache
    held: Tensor = cache if _ONE_PROJECTION else cache[context.virtual_engine]
    return held
