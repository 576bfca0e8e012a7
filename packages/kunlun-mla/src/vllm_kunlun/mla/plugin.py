# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``vllm.general_plugins``: the indexer layer of sparse attention."""

from __future__ import annotations

__all__ = ["register"]


def register() -> None:
    """Put our indexer into vLLM's registry of layers. Re-entrant; only on our platform.

    The attention backends need no registration: the platform finds them by entry point.
    """
    from vllm.platforms import current_platform

    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    if not isinstance(current_platform, KunlunPlatform):
        return
    from vllm.model_executor.custom_op import CustomOp, op_registry_oot

    from vllm_kunlun.mla.indexer import KunlunSparseAttnIndexer

    if op_registry_oot.get("SparseAttnIndexer") is not KunlunSparseAttnIndexer:
        CustomOp.register_oot(name="SparseAttnIndexer")(KunlunSparseAttnIndexer)
