# SPDX-License-Identifier: Apache-2.0
"""Where what the ledger entries of this wheel replace is published."""

from __future__ import annotations

__all__ = ["link"]


def link(target: str, release: str = "0.15.1") -> str:
    """Where the source of ``module`` or ``module:attribute`` is published."""
    path = target.partition(":")[0].replace(".", "/")
    return f"https://github.com/vllm-project/vllm/blob/v{release}/{path}.py"
