# SPDX-License-Identifier: Apache-2.0
"""The vendor's contract as call signatures, and the check of recorded calls against them.

Written by hand from the contract, not from our adapter or emulator: it is what both are held
against. Functions that the contract calls dead are left out, except where we call them.
"""

from __future__ import annotations

from . import (
    activation,
    attention,
    cache,
    causal_conv1d,
    embedding,
    flash_attn,
    gdn,
    indexer,
    int4,
    int8,
    lora,
    mla,
    moe,
    norm,
    rotary,
    sampling,
)
from .checker import Violation, check
from .signature import Signature

__all__ = ["CONTRACT", "Signature", "Violation", "check"]

_AREAS = (
    activation,
    attention,
    cache,
    causal_conv1d,
    embedding,
    flash_attn,
    gdn,
    indexer,
    int4,
    int8,
    lora,
    mla,
    moe,
    norm,
    rotary,
    sampling,
)

CONTRACT: dict[str, Signature] = {
    signature.function: signature for area in _AREAS for signature in area.SIGNATURES
}
