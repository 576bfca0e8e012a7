# SPDX-License-Identifier: Apache-2.0
"""A case of the conformance suite: one call of one vendor function, and what must come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["FLOATS", "TOLERANCES", "Call", "Case", "Expectation", "Inputs", "Outcome"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)

TOLERANCES: Mapping[torch.dtype, float] = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}
"""Largest error allowed, as a fraction of the largest expected magnitude, by the output's dtype.

Integers and booleans are compared exactly.
"""


class Inputs:
    """Random inputs of one case, seeded.

    They are made on the host, where its formula reads them: a card has no float64. What the
    function is called with is moved to the device afterwards, but for the host's half of
    :meth:`copies`.
    """

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.host: list[Tensor] = []
        """What stays on the host."""
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype | None = None, scale: float = 1.0) -> Tensor:
        """Normally distributed, of the case's dtype unless told otherwise."""
        values = torch.randn(shape, generator=self._generator) * scale
        return values.to(dtype or self.dtype)

    def uniform(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Uniform in [0, 1)."""
        values = torch.rand(shape, generator=self._generator)
        return values.to(dtype or self.dtype)

    def integers(
        self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int32
    ) -> Tensor:
        """Uniform in [low, high)."""
        values = torch.randint(low, high, shape, generator=self._generator)
        return values.to(dtype)

    def permutation(self, count: int, dtype: torch.dtype = torch.int32) -> Tensor:
        """The numbers below ``count`` in random order."""
        return torch.randperm(count, generator=self._generator).to(dtype)

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """An output, filled with a value that no case expects, so that unwritten parts show."""
        dtype = dtype or self.dtype
        poison = float("nan") if dtype.is_floating_point else torch.iinfo(dtype).max
        return torch.full(shape, poison, dtype=dtype)

    def tensor(self, values: Any, dtype: torch.dtype) -> Tensor:
        """A tensor of given values."""
        return torch.tensor(values, dtype=dtype)

    def copies(self, values: Any, dtype: torch.dtype = torch.int32) -> tuple[Tensor, Tensor]:
        """Host copy and device copy, for ``*_cpu`` and ``*_xpu`` arguments."""
        host = torch.as_tensor(values, dtype=dtype)
        self.host.append(host)
        return host, host.clone()


@dataclass(frozen=True)
class Outcome:
    """What a call left behind."""

    call: Call
    returned: Any

    def __getitem__(self, name: str | int) -> Tensor:
        """An argument by keyword, or by position from 0; "return" or "return.N" for results.

        On the host, wherever the call has left it.
        """
        if isinstance(name, int):
            found = self.call.args[name]
        elif name == "return":
            found = self.returned
        elif name.startswith("return."):
            found = self.returned[int(name.removeprefix("return."))]
        else:
            found = self.call.kwargs[name]
        return found.detach().cpu()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Call:
    """Arguments of one call, and what must hold after it.

    ``expected`` maps a keyword, a position, "return" or "return.N" to the values expected there
    (float64 for what is floating point). Where values cannot be known (sampling) ``judge`` gets
    the outcome and returns the error as a fraction, 0.0 for none.

    A call that settles an assumption may name in ``otherwise`` what else a library might do, each
    with what would then be expected (or judged): so a failure says which it was.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[Any, Tensor] = field(default_factory=dict)
    judge: Callable[[Outcome], float] | None = None
    otherwise: Mapping[str, Expectation] = field(default_factory=dict)


Expectation = Mapping[Any, Tensor] | Callable[[Outcome], float]
"""As ``expected`` or as ``judge`` of :class:`Call`."""


@dataclass(frozen=True)
class Case:
    """One call of one function, for each of ``dtypes``.

    Attributes:
        function: "kunlun_ops.NAME", "xspeedgate_ops.NAME" or "flash_attn.NAME".
        label: what is special about it, a few words, unique for the function.
        build: makes the call from random inputs; the formula in it uses float64 and plain torch.
        dtypes: of the model's tensors, one run for each.
        tolerances: overrides of :data:`TOLERANCES`.
        assumption: id of the entry of ASSUMPTIONS that this case settles on a card: it passes
            exactly if the assumption holds.
        finding: name of the entry of FINDINGS (``ops.contract.findings``) of which this case
            tries a form; its failure does not count if another form passes.
        form: which form.
    """

    function: str
    label: str
    build: Callable[[Inputs], Call]
    dtypes: tuple[torch.dtype, ...] = FLOATS
    tolerances: Mapping[torch.dtype, float] = field(default_factory=dict)
    assumption: str | None = None
    finding: str | None = None
    form: str | None = None
