# SPDX-License-Identifier: Apache-2.0
"""The tensors of a file of weights without their numbers: names, shapes and dtypes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

__all__ = ["DTYPES", "SMALL", "described", "stand_ins"]

_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
}
DTYPES = {name: getattr(torch, ours) for name, ours in _NAMES.items() if hasattr(torch, ours)}
"""safetensors' name of a dtype -> torch's, of those that this torch has."""

SMALL = 16
"""Elements up to which a tensor is read in any case: loaders look at the numbers of such."""


def stand_ins(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor of ``file`` by name, on torch's device ``meta``; a small one with its numbers.

    Args:
        file: safetensors, or what ``torch.save`` writes.

    Raises:
        NotImplementedError: a dtype that this torch lacks, or a file in a form that can only be
            read whole.
    """
    if file.suffix == ".safetensors":
        yield from _of_safetensors(file)
        return
    try:
        state = torch.load(file, map_location="meta", mmap=True, weights_only=True)
    except RuntimeError as error:  # written before torch 1.6, or damaged
        raise NotImplementedError(f"{file} has no header: {error}") from error
    yield from state.items()


def described(file: Path) -> dict[str, dict[str, Any]]:
    """Each tensor of a safetensors file -> its ``dtype``, ``shape`` and ``data_offsets``.

    Raises:
        ValueError: the header is not JSON.
    """
    with file.open("rb") as stream:
        header: dict[str, dict[str, Any]] = json.loads(
            stream.read(int.from_bytes(stream.read(8), "little"))
        )
    header.pop("__metadata__", None)
    return header


def _of_safetensors(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(file, framework="pt") as values:
        for name, each in described(file).items():
            if math.prod(each["shape"]) <= SMALL:
                yield name, values.get_tensor(name)
                continue
            if (dtype := DTYPES.get(each["dtype"])) is None:
                raise NotImplementedError(f"{name} in {file} has dtype {each['dtype']}")
            yield name, torch.empty(each["shape"], dtype=dtype, device="meta")
