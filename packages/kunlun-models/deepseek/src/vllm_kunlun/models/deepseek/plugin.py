# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``vllm.general_plugins``: the model classes that differ from vLLM's."""

from __future__ import annotations

from vllm_kunlun.models.deepseek.family import FAMILIES

__all__ = ["register"]


def register() -> None:
    """Put our classes, by name only, into vLLM's registry. Re-entrant.

    An architecture whose class is None runs with vLLM's own class and our layers. Does nothing
    when another platform is in charge.
    """
    ours = {
        name: path
        for family in FAMILIES
        for name, path in family.architectures.items()
        if path is not None
    }
    from vllm import ModelRegistry
    from vllm.platforms import current_platform

    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    if not isinstance(current_platform, KunlunPlatform):
        return
    for architecture, path in ours.items():
        ModelRegistry.register_model(architecture, path)
