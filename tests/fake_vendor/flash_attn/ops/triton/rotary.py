# SPDX-License-Identifier: Apache-2.0
"""vLLM imports this name from any ``flash_attn`` that is there; no path of ours calls it."""

from __future__ import annotations

from typing import Any


def apply_rotary(*_args: Any, **_kwargs: Any) -> Any:
    raise NotImplementedError("the vendor's contract has no flash_attn.ops.triton.rotary")
