# SPDX-License-Identifier: Apache-2.0
"""Which vLLM the ledger entries of this wheel replace a part of."""

from __future__ import annotations

__all__ = ["RANGE", "link"]

RANGE = ">=0.15.1,<0.16"


def link(target: str) -> str:
    """Where the source of ``module`` or ``module:attribute`` is published."""
    path = target.partition(":")[0].replace(".", "/")
    return f"https://github.com/vllm-project/vllm/blob/v0.15.1/{path}.py"
