# SPDX-License-Identifier: Apache-2.0
"""Which attention backend serves a layer: found by entry point, checked before it is used."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.checks import cache, dtype
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.v1.attention.backends.registry import AttentionBackendEnum
    from vllm.v1.attention.selector import AttentionSelectorConfig

__all__ = ["GROUP", "find", "select"]

GROUP = "vllm_kunlun.attention_backends"


def find(kind: str) -> EntryPoint:
    """The entry point that provides backend ``kind`` (``dense``, ``mla`` or ``mla_sparse``).

    Raises:
        MissingWheelError: no installed wheel provides it, or several do.
    """
    return wheels.provider(GROUP, kind, need=f"this model needs the {kind!r} attention backend")


def select(selected: AttentionBackendEnum | None, wanted: AttentionSelectorConfig) -> str:
    """The class path of the backend for one layer.

    vLLM does not ask a backend whether it can serve a configuration, so this does.

    Raises:
        MissingWheelError: the wheel that holds the backend is not installed.
        UnsupportedError: the backend cannot do what the layer asks; the message says what can.
    """
    if selected is not None and selected.name != "CUSTOM":
        raise UnsupportedError(
            f"attention backend {selected.name} does not run on a Kunlun device. Leave "
            "--attention-backend unset: the platform's own backend is chosen for the model."
        )
    cache.check_dtype(wanted.kv_cache_dtype)
    kind = "dense" if not wanted.use_mla else "mla_sparse" if wanted.use_sparse else "mla"
    entry = find(kind)
    backend = entry.load()
    dtype.check(wanted.dtype, backend.supported_dtypes)
    if not backend.supports_head_size(wanted.head_size):
        sizes = ", ".join(str(size) for size in backend.get_supported_head_sizes())
        raise UnsupportedError(
            f"head_size={wanted.head_size}: the vendor's attention functions take {sizes}. "
            "No option changes a model's head size; run this model on another platform."
        )
    if wanted.block_size is not None:
        cache.check_block_size(
            wanted.block_size,
            backend.get_supported_kernel_block_sizes(),
            fits=backend.supports_block_size(wanted.block_size),
        )
    if not backend.supports_attn_type(wanted.attn_type):
        raise UnsupportedError(
            f"attention type {wanted.attn_type!r} (cross attention of an encoder-decoder model) "
            "has no Kunlun function. Decoder and encoder-only models run."
        )
    for name in ("use_non_causal", "use_rswa"):
        if getattr(wanted, name, False):
            raise UnsupportedError(
                f"this model's attention asks for {name}: queries that see later tokens, or a "
                "window over the answer alone, which no Kunlun attention function offers. Run it "
                "on another platform."
            )
    if wanted.use_mm_prefix:
        raise prefix_lm("this model")
    return f"{backend.__module__}.{backend.__qualname__}"


def prefix_lm(model: str) -> UnsupportedError:
    """The error of a model whose pictures attend in both directions."""
    return UnsupportedError(
        f"{model} lets image tokens attend each other in both directions inside a causal prompt "
        "(prefix LM), which no Kunlun attention function offers. Text-only use of it: "
        "--limit-mm-per-prompt '{\"image\": 0}'."
    )
