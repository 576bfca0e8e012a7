# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``vllm.general_plugins``: quantisation methods and their kernels."""

from __future__ import annotations

__all__ = ["register_quant_method"]


def register_quant_method() -> None:
    """Put our methods into vLLM's registries. Re-entrant; does nothing on another platform."""
    from vllm.platforms import current_platform

    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    if not isinstance(current_platform, KunlunPlatform):
        return
    from vllm_kunlun.quantization.registry import register

    register()
