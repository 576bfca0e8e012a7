# SPDX-License-Identifier: Apache-2.0
"""A layer of ours and the layer of vLLM's that it replaces, with the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from vllm.model_executor.custom_op import op_registry_oot

TOLERANCES = {  # rtol, atol; half precision: one rounding more or less than vLLM's
    torch.float32: (1e-5, 1e-6),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (1.6e-2, 1.6e-2),
}


DTYPES = list(TOLERANCES)


ROWS = [(1,), (5,), (2, 3)]
"""Leading dimensions: one token, a step, a batch of sequences."""


def close(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, tuple):
        assert isinstance(ours, tuple) and len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            close(our, their)
        return
    assert ours.shape == theirs.shape
    rtol, atol = TOLERANCES[ours.dtype]
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=rtol, atol=atol)


def replaced_and_own(build: Callable[[], Any]) -> tuple[Any, Any]:
    """``(ours, vLLM's)`` of one constructor call, with the same parameters."""
    with mock.patch.dict(op_registry_oot, clear=True):
        theirs = build()
    ours = build()
    assert not type(theirs).__module__.startswith("vllm_kunlun")
    assert type(ours).__module__.startswith("vllm_kunlun")
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(1.0, 0.5)
            ours.get_parameter(name).copy_(parameter)
    return ours, theirs


def strided(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Random, with the last dimension cut out of a wider one, as a split projection is."""
    wide = torch.randn(*shape[:-1], 2 * shape[-1] + 3).to(dtype)
    return wide[..., 2 : 2 + shape[-1]]
