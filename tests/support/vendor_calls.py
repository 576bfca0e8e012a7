# SPDX-License-Identifier: Apache-2.0
"""Calls of the vendor's functions as they were made: recorded to JSON lines, one file a process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from support.vendor_contract import CONTRACT
from support.vendor_contract.binding import bind

__all__ = ["FOLDER", "describe_call", "read", "recorded"]

FOLDER = "FAKE_VENDOR_RECORDS"
"""The environment variable that names the folder of the records."""

_files: dict[Path, TextIO] = {}


def recorded(function: str, answer: Callable[..., Any]) -> Callable[..., Any]:
    """``answer`` that writes each call of it down first, as a call of ``function``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        print(json.dumps(describe_call(function, args, kwargs)), file=_file())
        return answer(*args, **kwargs)

    return call


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Every call that any process recorded in ``folder``."""
    for file in sorted(folder.glob("*.jsonl")):
        with file.open() as lines:
            yield from map(json.loads, lines)


def describe_call(function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The call without the tensors' values; ``equal``: whether each host copy equals its original.

    ``equal`` is None where the values cannot be compared, as on the meta device.
    """
    return {
        "function": function,
        "args": [_describe(value) for value in args],
        "kwargs": {name: _describe(value) for name, value in kwargs.items()},
        "equal": _equal_copies(function, args, kwargs),
    }


def _describe(value: Any) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        return {
            "type": "Tensor",
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
            "stride": list(value.stride()),
            "contiguous": value.is_contiguous(),
            "device": value.device.type,
            "address": value.data_ptr(),
        }
    if isinstance(value, (list, tuple)):
        return {"type": type(value).__name__, "items": [_describe(item) for item in value]}
    if isinstance(value, (bool, int, float, str)):
        return {"type": type(value).__name__, "value": value}
    return {"type": type(value).__name__}


def _equal_copies(
    function: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, bool | None]:
    signature = CONTRACT.get(function)
    if signature is None:
        return {}
    values = bind(signature, args, kwargs).values
    found: dict[str, bool | None] = {}
    for name, parameter in signature.tensors().items():
        host, device = values.get(name), values.get(parameter.host_copy_of or "")
        if isinstance(host, torch.Tensor) and isinstance(device, torch.Tensor):
            readable = "meta" not in (host.device.type, device.device.type)
            found[name] = torch.equal(host, device.to(host.device)) if readable else None
    return found


def _file() -> TextIO:
    folder = os.environ.get(FOLDER)
    if folder is None:
        raise RuntimeError(f"set {FOLDER} to the folder that the recorded calls go to")
    path = Path(folder) / f"{os.getpid()}.jsonl"  # a forked child writes a file of its own
    if path not in _files:
        _files[path] = path.open("a", buffering=1)
    return _files[path]
