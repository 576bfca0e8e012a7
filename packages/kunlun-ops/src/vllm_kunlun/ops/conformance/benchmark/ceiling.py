# SPDX-License-Identifier: Apache-2.0
"""What this machine can do at most: bytes moved and products, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.benchmark.timing import least_seconds

__all__ = ["Ceilings"]

LONG_SECONDS = 0.02
"""A product that takes as long is large enough to be measured."""


@dataclass
class Ceilings:
    """Measured when first asked for, on ``device``; each takes about ``seconds``.

    Attributes:
        copied_bytes: memory to copy and to read, far beyond any cache.
        largest: widest square product to try.
    """

    device: str
    seconds: float = 1.0
    copied_bytes: int = 1 << 28
    largest: int = 8192
    _products: dict[torch.dtype, float | None] = field(default_factory=dict)
    _memory: tuple[float, float] | None = None

    def memory(self) -> tuple[float, float]:
        """Bytes per second of a copy (read and written both count) and of a read."""
        if self._memory is None:
            source = torch.ones(self.copied_bytes // 4, device=self.device)
            target = source.clone()
            copy, read = least_seconds(
                lambda: target.copy_(source), source.sum, seconds=self.seconds, device=self.device
            )
            self._memory = 2 * self.copied_bytes / copy, self.copied_bytes / read
        return self._memory

    def products(self, dtype: torch.dtype) -> float | None:
        """Operations per second of a large square product; None if torch has none here."""
        if dtype not in self._products:
            self._products[dtype] = self._measure(dtype)
        return self._products[dtype]

    def measured(self) -> dict[torch.dtype, float | None]:
        """Operations per second of each dtype that was asked for."""
        return dict(self._products)

    def _measure(self, dtype: torch.dtype) -> float | None:
        best, width = 0.0, 256
        while True:
            try:
                multiply = _product(width, dtype, self.device)
                multiply()
                (least,) = least_seconds(multiply, seconds=self.seconds / 4, device=self.device)
            except RuntimeError:  # torch's word for a dtype without a product on this device
                return None
            best = max(best, 2 * width**3 / least)
            if least > LONG_SECONDS or width >= self.largest:
                return best
            width *= 2


def _product(width: int, dtype: torch.dtype, device: str) -> Callable[[], Tensor]:
    if dtype == torch.int8:
        left, right = (
            torch.randint(-127, 128, (width, width), dtype=dtype, device=device) for _ in range(2)
        )
        return lambda: torch._int_mm(left, right.T)
    left, right = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right.T
