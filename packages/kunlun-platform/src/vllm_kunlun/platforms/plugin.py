# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``vllm.platform_plugins``: decides whether Kunlun is the platform.

vLLM calls :func:`register` (twice) and swallows whatever it raises. A plugin that must refuse
therefore answers with the path of
:class:`~vllm_kunlun.platforms.checks.refusal.RefusedPlatform`, whose construction raises the reason
where vLLM no longer hides it.
"""

from __future__ import annotations

import logging

from vllm_kunlun.platforms import device, emulator, envs, triton_messages, version
from vllm_kunlun.platforms.checks import refusal
from vllm_kunlun.platforms.errors import KunlunError
from vllm_kunlun.platforms.ledger import import_hook, patch_ledger
from vllm_kunlun.platforms.starting import cause

logger = logging.getLogger("vllm.kunlun")

_PLATFORM = "vllm_kunlun.platforms.kunlun.KunlunPlatform"

__all__ = ["register"]


def register() -> str | None:
    """Return the platform class for vLLM, or None to stand aside.

    Re-entrant, and imports neither torch nor vLLM. Checks in this order: the device, the vLLM
    version, then installs the module redirects and the patches of every installed wheel. On a card
    it also sets the variables of the vendor's runtime that suit every model, for this process and
    its children; what reads them at ``import torch`` sees them in the children only.

    Returns:
        The class path of the platform; None when another accelerator is present (said in one
        line); the class path of the refusing platform when something is wrong.
    """
    try:
        found = device.detect()
        if found.kind == "none":
            logger.warning("vllm-kunlun stands aside: %s", found.reason)
            return None
        if found.kind == "emulated":
            emulator.name_of("worker")  # now, and not when an engine starts
        version.check_vllm()
        import_hook.install()
        patch_ledger.install()
        if found.kind == "rehearsal":
            emulator.load("rehearsal")()  # imports torch and vLLM: both are mended by now
        triton_messages.hide()
        cause.hand_over()
        if found.kind == "xpu":
            _set_card_values()
    except KunlunError as error:
        return refusal.refuse(error)
    return _PLATFORM


def _set_card_values() -> None:
    values = envs.card_values()
    done = [f"{name}={value}" for name, value in values.items() if envs.set_default(name, value)]
    if done:
        logger.info(
            "Set for the vendor's runtime, as it advises for every model (a value of your own "
            "wins): %s",
            " ".join(done),
        )
