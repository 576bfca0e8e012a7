# SPDX-License-Identifier: Apache-2.0
"""What is called of the vendor's functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract.functions import called


class Recorder:
    """A library that has every function and keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> str:
            self.calls.append((name, args, kwargs))
            return f"result of {name}"

        return record


def names_called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The adapter's functions by name, in the order in which they come to be called."""
    names: list[str] = []

    def recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            names.append(name)
            return function(*arguments, **keywords)

        return call

    for name in sorted({each.adapter_name for each in called()}):
        function = getattr(vendor_ops, name)
        assert inspect.isfunction(function), name
        monkeypatch.setattr(vendor_ops, name, recorded(name, function))
    return names
