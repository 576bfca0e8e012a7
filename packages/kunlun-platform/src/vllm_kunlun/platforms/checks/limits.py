# SPDX-License-Identifier: Apache-2.0
"""What the card and the vendor's functions take, as far as the platform has to know it."""

from __future__ import annotations

import torch

__all__ = [
    "KV_CACHE_DTYPES",
    "MAX_DECODE_BATCH",
    "MLA_BLOCK_SIZE",
    "BLOCK_SIZES",
    "SUPPORTED_DTYPES",
]

SUPPORTED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
"""In vLLM's order of preference for ``dtype="auto"``: fp16 runs at twice the speed of bf16."""

KV_CACHE_DTYPES = ("auto", "float16", "bfloat16")
"""Attention functions read the cache in the model's dtype."""

BLOCK_SIZES = (16, 32, 64, 128)
"""Tokens in a page of the cache that the vendor's dense attention functions read."""

MLA_BLOCK_SIZE = 64
"""Tokens in a page of the vendor's latent cache."""

MAX_DECODE_BATCH = 1023
"""The vendor's decode attention fails from a batch of 1024 requests on."""
