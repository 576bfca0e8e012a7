# SPDX-License-Identifier: Apache-2.0
"""Assumptions about multi-head latent attention."""

from vllm_kunlun.ops.emulator.assumptions.assumption import Assumption

__all__ = ["MLA"]

MLA = (
    Assumption(
        "mla-cache-negative-slot",
        "kunlun_ops.concat_and_cache_mla",
        "a negative slot is skipped and nothing is written for its token",
        "H",
        "write three tokens with slots [-1, 5, -1]; only row 5 may change",
    ),
    Assumption(
        "mla-gather-negative-block",
        "xspeedgate_ops.gather_and_maybe_dequant_cache",
        "rows of a negative block stay as they are",
        "H",
        "gather over a table [1, -1] into a filled buffer",
    ),
)
