# SPDX-License-Identifier: Apache-2.0
"""Limits of the vendor's functions that the configuration of a server is checked against.

The platform stands below the op library, so these have their home here;
``vllm_kunlun.ops.contract.limits`` describes them with all the others.
"""

from __future__ import annotations

__all__ = ["MAX_DECODE_BATCH", "MLA_BLOCK_SIZE", "SUPPORTED_BLOCK_SIZES"]

MAX_DECODE_BATCH = 1023
SUPPORTED_BLOCK_SIZES = (16, 32, 64, 128)
MLA_BLOCK_SIZE = 64
