# SPDX-License-Identifier: Apache-2.0
"""Takes the place of ``vllm.v1.worker.utils``, for one function that knows other platforms only."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.models.utils import extract_layer_index

from vllm_kunlun.platforms.ledger import import_hook

_vllm = import_hook.import_original("vllm.v1.worker.utils")


def bind_kv_cache(
    kv_caches: dict[str, torch.Tensor],
    forward_context: dict[str, Any],
    runner_kv_caches: list[torch.Tensor],
    num_attn_module: int = 1,
) -> None:
    """Give each attention layer its cache, and the runner all of them in the order of layers.

    Two layers may have one index: a drafter's layers are counted from 0 as the target's are.

    Shapes: each layer's cache as its backend shapes it.
    """
    order = sorted(kv_caches, key=lambda name: extract_layer_index(name, num_attn_module))
    runner_kv_caches.extend(kv_caches[name] for name in order)
    for name, cache in kv_caches.items():
        forward_context[name].kv_cache = [cache]


def __getattr__(name: str) -> Any:
    return getattr(_vllm, name)
