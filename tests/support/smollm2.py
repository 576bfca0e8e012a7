# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct, the real weights that come as a Python package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from vllm_kunlun.cli import weights


@cache
def checkpoint() -> Path:
    """The folder of the converted checkpoint; converted once per user, as ``demo`` does."""
    return weights.smollm2()
