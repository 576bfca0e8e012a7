# SPDX-License-Identifier: Apache-2.0
"""The model classes of the family wheels, put into vLLM's registry."""

from __future__ import annotations

from vllm_kunlun.platforms.families import ModelFamily

__all__ = ["register_models"]


def register_models(*families: ModelFamily) -> None:
    """Put the classes that differ from vLLM's, by name only, into vLLM's registry. Re-entrant.

    For a wheel's entry point of ``vllm.general_plugins``. An architecture whose class is None runs
    with vLLM's own class and our layers. Does nothing when another platform is in charge, and for a
    family that the installed vLLM does not know.
    """
    from vllm import ModelRegistry
    from vllm.platforms import current_platform

    from vllm_kunlun.platforms.kunlun import KunlunPlatform

    if not isinstance(current_platform, KunlunPlatform):
        return
    for family in families:
        if not family.is_known:
            continue
        for architecture, path in family.classes.items():
            if path is not None:
                # Taken out first: replacing an entry is what vLLM warns of.
                ModelRegistry.models.pop(architecture, None)
                ModelRegistry.register_model(architecture, path)
