# SPDX-License-Identifier: Apache-2.0
"""A rotary layer of ours and vLLM's own, and what they are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.layers.rotary_embedding import get_rope

from vllm_kunlun.ops.layers import LAYERS

TOLERANCES = {  # rtol, atol; half precision: vLLM rounds at every step, we once
    torch.float32: (1e-5, 2e-6),
    torch.float16: (4e-3, 4e-3),
    torch.bfloat16: (3e-2, 3e-2),
}


DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)


STYLES = pytest.mark.parametrize("neox", [True, False], ids=["neox", "side by side"])


MAX_POSITION = 64


TOKENS = 9


def pair(build: Callable[[], Any]) -> tuple[Any, Any]:
    """``(ours, vLLM's)`` of one constructor call."""
    layers = []
    for registry in (dict(op_registry_oot), {}):
        rotary_embedding._ROPE_DICT.clear()
        with mock.patch.dict(op_registry_oot, registry, clear=True):
            layers.append(build())
    ours, theirs = layers
    assert type(ours) is LAYERS[type(theirs).__name__]
    assert ours._forward_method == ours.forward_oot
    return ours, theirs


def close(ours: Any, theirs: Any) -> None:
    for our, their in zip(ours, theirs, strict=True):
        assert our.shape == their.shape
        assert our.dtype == their.dtype
        rtol, atol = TOLERANCES[our.dtype]
        torch.testing.assert_close(our, their, rtol=rtol, atol=atol)


def rope(dtype: torch.dtype, neox: bool, head_size: int = 32, **parameters: Any) -> Any:
    return get_rope(head_size, MAX_POSITION, neox, parameters, dtype)


def heads(dtype: torch.dtype, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(TOKENS, 4 * size).to(dtype), torch.randn(TOKENS, 2 * size).to(dtype)


def places(rows: int) -> torch.Tensor:
    """Different in each row, with the ends of the table."""
    positions = torch.randint(MAX_POSITION, (rows, TOKENS))
    positions[:, 0], positions[:, -1] = 0, MAX_POSITION - 1
    return positions
