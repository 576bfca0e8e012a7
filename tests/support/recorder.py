# SPDX-License-Identifier: Apache-2.0
"""A vendor library that keeps what it is called with."""

from __future__ import annotations

from typing import Any


class Recorder:
    """A library that has every function and keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> str:
            self.calls.append((name, args, kwargs))
            return f"result of {name}"

        return record
