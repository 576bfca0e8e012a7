# SPDX-License-Identifier: Apache-2.0
"""The vendor's contract as call signatures, and the check of recorded calls against them.

Shapes, dtypes and layouts are written by hand from the evidence, not from our adapter or emulator:
it is what both are held against. Limits come from ``vllm_kunlun.ops.contract``, and a test compares
names, order and kinds of arguments with it. Functions that we do not call are left out.
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
