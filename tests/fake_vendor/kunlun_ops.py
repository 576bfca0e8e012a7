# SPDX-License-Identifier: Apache-2.0
"""Stands in for the vendor's ``kunlun_ops``: records each call, and the emulator answers it."""

from __future__ import annotations

from typing import Any

from support.other_forms import in_its_form
from support.vendor_calls import recorded

from vllm_kunlun.emulator import kunlun_ops as _emulator


def __getattr__(name: str) -> Any:
    if name not in _emulator.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    full_name = f"kunlun_ops.{name}"
    answer = in_its_form(full_name, getattr(_emulator, name))
    globals()[name] = function = recorded(full_name, answer)
    return function
