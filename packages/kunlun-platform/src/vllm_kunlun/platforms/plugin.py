# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``vllm.platform_plugins``: decides whether Kunlun is the platform.

vLLM calls :func:`register` (twice) and swallows whatever it raises. A plugin that must refuse
therefore answers with the path of :class:`~vllm_kunlun.platforms.refusal.RefusedPlatform`, whose
construction raises the reason where vLLM no longer hides it.
"""

from __future__ import annotations

import logging

from vllm_kunlun.platforms import (
    device,
    import_hook,
    patch_ledger,
    refusal,
    triton_messages,
    version,
)
from vllm_kunlun.platforms.errors import KunlunError

logger = logging.getLogger("vllm.kunlun")

_PLATFORM = "vllm_kunlun.platforms.kunlun.KunlunPlatform"

__all__ = ["register"]


def register() -> str | None:
    """Return the platform class for vLLM, or None to stand aside.

    Re-entrant, and imports neither torch nor vLLM. Checks in this order: the device, the vLLM
    version, then installs the module redirects and the patches of every installed wheel.

    Returns:
        The class path of the platform; None when another accelerator is present (said in one
        line); the class path of the refusing platform when something is wrong.
    """
    try:
        found = device.detect()
        if found.kind == "none":
            logger.warning("vllm-kunlun stands aside: %s", found.reason)
            return None
        version.check_vllm()
        import_hook.install()
        patch_ledger.install()
        triton_messages.hide()
    except KunlunError as error:
        return refusal.refuse(error)
    return _PLATFORM
