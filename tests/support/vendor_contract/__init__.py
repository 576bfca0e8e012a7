# SPDX-License-Identifier: Apache-2.0
"""The vendor's contract as call signatures, and the check of recorded calls against them.

Written by hand from the contract, not from our adapter or emulator: it is what both are held
against. Functions that the contract calls dead are left out, except where we call them.
"""

from __future__ import annotations

from . import attention, flash_attn, gdn, int8, lora, mla, moe, norm, sampling
from .checker import Violation, check
from .signature import Signature

__all__ = ["CONTRACT", "Signature", "Violation", "check"]

CONTRACT: dict[str, Signature] = {
    signature.function: signature
    for area in (attention, mla, norm, moe, int8, sampling, gdn, lora, flash_attn)
    for signature in area.SIGNATURES
}
