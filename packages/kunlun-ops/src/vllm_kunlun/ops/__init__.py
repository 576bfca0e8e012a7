# SPDX-License-Identifier: Apache-2.0
"""The custom op library: vendor adapter, ops, layers, dense attention and sampling.

Importing this package imports neither torch nor vLLM: the platform asks it for its redirects while
vLLM itself is being imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm_kunlun.ops.torch_ops.declaration import OpDeclarationError, check_op
    from vllm_kunlun.ops.torch_ops.registration import custom_op

__all__ = ["OpDeclarationError", "check_op", "custom_op"]

_MODULES = {
    "OpDeclarationError": "torch_ops.declaration",
    "check_op": "torch_ops.declaration",
    "custom_op": "torch_ops.registration",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    globals()[name] = found = getattr(module, name)
    return found
