# SPDX-License-Identifier: Apache-2.0
"""The manual's import path of the three-piece registration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vllm_kunlun.ops.torch_ops.registration import register

__all__ = ["direct_register_custom_op"]


def direct_register_custom_op(
    op_name: str,
    op_func: Callable[..., Any],
    mutates_args: Sequence[str] = (),
    fake_impl: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Register ``torch.ops.vllm_kunlun.<op_name>``; see :func:`vllm_kunlun.ops.custom_op`."""
    return register(op_name, op_func, mutates_args=mutates_args, fake=fake_impl)
