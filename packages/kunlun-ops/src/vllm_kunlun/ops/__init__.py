# SPDX-License-Identifier: Apache-2.0
"""The custom op library: vendor adapter, emulator, layers, dense attention and sampling.

Importing this package imports neither torch nor vLLM: the platform asks it for its redirects while
vLLM itself is being imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm_kunlun.ops.registration import custom_op

__all__ = ["custom_op"]


def __getattr__(name: str) -> Any:
    if name == "custom_op":
        from vllm_kunlun.ops.registration import custom_op

        globals()[name] = custom_op
        return custom_op
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
