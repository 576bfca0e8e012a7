# SPDX-License-Identifier: Apache-2.0
"""What 0.33 makes for each layer of latent attention, beside the layer's implementation."""

from __future__ import annotations

from typing import Any

__all__ = ["NoPrefillBackend"]


class NoPrefillBackend:
    """Stands where vLLM keeps a kernel for prompts; ours are computed by the implementation.

    It has nothing but a name: whatever vLLM would call is an error, and not another's kernel.
    """

    def __init__(self, **_sizes: Any) -> None: ...

    @staticmethod
    def get_name() -> str:
        """What vLLM's log calls it."""
        return "KUNLUN"
