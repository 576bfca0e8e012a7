# SPDX-License-Identifier: Apache-2.0
"""Token types of a pair of texts, for models that know them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from vllm_kunlun.platforms.ledger import patch_ledger

__all__ = ["init_model_kwargs", "takes"]

_NAME = "token_type_ids"


def init_model_kwargs(self: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
    """Stands for ``GPUModelRunner._init_model_kwargs``: what its model has no argument for is left
    out, as HF transformers does."""
    found: dict[str, Any] = patch_ledger.original("token-types")(self, *arguments, **options)
    if _NAME in found and not takes(type(self.get_model()).forward):
        del found[_NAME]
    return found


@cache
def takes(forward: Callable[..., Any]) -> bool:
    """Whether a model's ``forward`` has an argument for token types."""
    arguments = inspect.signature(forward).parameters
    return _NAME in arguments or any(
        each.kind is inspect.Parameter.VAR_KEYWORD for each in arguments.values()
    )
