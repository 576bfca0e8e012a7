# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``vllm.general_plugins``: layers, and ops that vLLM looks up by name."""

from __future__ import annotations

__all__ = ["register"]


def register() -> None:
    """Put our layers, connectors, kernels and the loader of checkpoints into vLLM's registries.

    Re-entrant; does nothing on another platform.
    """
    from vllm.platforms import current_platform

    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    if not isinstance(current_platform, KunlunPlatform):
        return
    from vllm_kunlun.ops.kv_transfer import register_connectors
    from vllm_kunlun.ops.layers import register_layers
    from vllm_kunlun.ops.torch_ops import vllm_names
    from vllm_kunlun.ops.vllm_modules import triton_kernels
    from vllm_kunlun.platforms.loading import loader

    loader.register()
    vllm_names.define()
    register_layers()
    register_connectors()
    triton_kernels.register()
