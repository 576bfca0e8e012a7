# SPDX-License-Identifier: Apache-2.0
"""A benchmark: some functions of the vendor beside what torch alone does for the same result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Benchmark", "Maker", "Pair", "Scale", "Sizes"]

Scale = Literal["full", "quick", "tiny"]
"""How many sizes and how large: for a report, for a look, for a test."""

Sizes = Mapping[Scale, Sequence[Any]]


class Maker:
    """Makes inputs on the device; ``dtype`` is the model's."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self.dtype = dtype
        self.device = device

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.randn(shape, dtype=torch.float32, device=self.device).to(dtype or self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        """float32 in [0, 1)."""
        return torch.rand(shape, device=self.device)

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.randint(low, high, shape, dtype=dtype, device=self.device)

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.device)

    def tensor(self, values: Any, dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self.device)

    def copies(self, values: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Host copy and device copy, int32."""
        host = torch.tensor(values, dtype=torch.int32)
        return host, host.to(self.device, copy=True)


@dataclass(frozen=True)
class Pair:
    """The same work twice, ready to run again and again.

    Attributes:
        vendor: on the vendor's functions; returns the result.
        plain: in plain torch; returns the result.
        moved_bytes: what has to be read and written at least, each number once.
        operations: additions and multiplications.
        dtype: in which the products are, for the ceiling.
        comparable: results must agree; not so where they are drawn at random.
    """

    vendor: Callable[[], Tensor]
    plain: Callable[[], Tensor]
    moved_bytes: int
    operations: int
    dtype: torch.dtype
    comparable: bool = True


@dataclass(frozen=True)
class Benchmark:
    """One size of one piece of work.

    Attributes:
        area: what of a model it is.
        functions: full names of the vendor's functions that it runs.
        size: for people.
        build: makes the inputs.
    """

    area: str
    functions: tuple[str, ...]
    size: str
    build: Callable[[Maker], Pair]
