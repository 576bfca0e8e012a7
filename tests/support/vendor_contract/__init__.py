# SPDX-License-Identifier: Apache-2.0
"""The vendor's contract as call signatures, and the check of recorded calls against them.

Written by hand from the contract, not from our adapter or emulator: it is what both are held
against. Functions that the contract calls dead are left out, except where we call them.
"""

from __future__ import annotations

from . import dense, gdn, lora, mla, moe, norm, quantisation, sampling, vision
from .checker import Violation, check
from .signature import Signature

__all__ = ["CONTRACT", "Signature", "Violation", "check"]

CONTRACT: dict[str, Signature] = {
    signature.function: signature
    for area in (dense, mla, norm, moe, quantisation, sampling, gdn, lora, vision)
    for signature in area.SIGNATURES
}
