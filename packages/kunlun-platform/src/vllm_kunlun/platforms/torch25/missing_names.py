# SPDX-License-Identifier: Apache-2.0
"""Names that came to torch after 2.5 and that vLLM takes for granted."""

from __future__ import annotations

from typing import Any

__all__ = ["bundled_autograd_cache", "wrap_triton"]


def bundled_autograd_cache(_table: object) -> dict[str, bool]:
    """The option of functorch's configuration, off: 2.5 has no such cache, and never reads it."""
    return {"bundled_autograd_cache": False}


def wrap_triton(_names: object) -> dict[str, Any]:
    """``torch.library.wrap_triton`` under the name that 2.5 had for it, ``capture_triton``."""
    from torch._library.triton import capture_triton

    return {"wrap_triton": capture_triton}
