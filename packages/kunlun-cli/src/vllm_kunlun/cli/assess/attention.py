# SPDX-License-Identifier: Apache-2.0
"""The kinds of attention of a model, by what each layer keeps in the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.v1.kv_cache_interface import KVCacheSpec

__all__ = ["kinds"]


def kinds(specs: Iterable[KVCacheSpec]) -> list[str]:
    """One line for each kind of layer: how many, what they keep."""
    found = Counter(map(_words, specs))
    return [
        f"{number} {'layers' if number > 1 else 'layer'}: {words}"
        for words, number in found.most_common()
    ]


def _words(spec: Any) -> str:
    from vllm.v1.kv_cache_interface import (
        ChunkedLocalAttentionSpec,
        CrossAttentionSpec,
        FullAttentionSpec,
        MambaSpec,
        MLAAttentionSpec,
        SlidingWindowSpec,
    )

    if isinstance(spec, MambaSpec):
        shapes = ", ".join("x".join(map(str, shape)) for shape in spec.shapes)
        return f"a state of {shapes} (linear attention or a state space)"
    if isinstance(spec, MLAAttentionSpec):
        return f"latent attention, {spec.head_size} numbers a token"
    heads = f"{spec.num_kv_heads} heads of {spec.head_size} for keys and values"
    if isinstance(spec, SlidingWindowSpec):
        return f"a window of {spec.sliding_window} tokens, {heads}"
    if isinstance(spec, ChunkedLocalAttentionSpec):
        return f"chunks of {spec.attention_chunk_size} tokens, {heads}"
    if isinstance(spec, CrossAttentionSpec):
        return f"attention to an encoder, {heads}"
    if isinstance(spec, FullAttentionSpec) and spec.sliding_window:
        return f"a window of {spec.sliding_window} tokens, {heads}"
    return f"full attention, {heads}"
