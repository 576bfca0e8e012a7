# SPDX-License-Identifier: Apache-2.0
"""Run one case on whatever library is there."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.case import TOLERANCES, Case, Expectation, Inputs, Outcome
from vllm_kunlun.ops.conformance.transfer import on_device
from vllm_kunlun.ops.vendor_ops.library import function

__all__ = ["Result", "compare", "run"]


@dataclass(frozen=True)
class Result:
    """How one run of one case came out.

    ``error`` is the worst error as a fraction of the largest expected magnitude, ``inf`` for a
    wrong shape or dtype class; ``tolerance`` what was allowed there; ``message`` says why it
    failed, empty if it passed; ``otherwise`` which alternative of the call fits what came instead.
    """

    case: Case
    dtype: torch.dtype
    error: float
    tolerance: float
    message: str
    otherwise: str = ""

    @property
    def passed(self) -> bool:
        return not self.message


def run(case: Case, dtype: torch.dtype, device: torch.device | str = "cpu") -> Result:
    """Call the function on ``device`` and compare.

    Raises:
        VendorLibraryError: the installed library has no such function.
        Exception: whatever the function raises; a card's library documents no errors.
    """
    library, name = case.function.split(".", 1)
    seed = zlib.crc32(f"{case.function} {case.label} {dtype}".encode())
    inputs = Inputs(seed, dtype)
    call = on_device(case.build(inputs), device, stay=inputs.host)
    outcome = Outcome(call, function(library, name)(*call.args, **call.kwargs))
    error, tolerance, message = compare(case, dtype, outcome, call.judge or call.expected)
    otherwise = ""
    if message:
        for meaning, expectation in call.otherwise.items():
            if not compare(case, dtype, outcome, expectation)[2]:
                otherwise = meaning
                break
    return Result(case, dtype, error, tolerance, message, otherwise)


def compare(
    case: Case, dtype: torch.dtype, outcome: Outcome, expectation: Expectation
) -> tuple[float, float, str]:
    """Worst error, the tolerance there, and why that is not good enough (empty if it is)."""
    if callable(expectation):
        error, tolerance = expectation(outcome), case.tolerances.get(dtype, TOLERANCES[dtype])
        return error, tolerance, "" if error <= tolerance else _too_much(error, tolerance)
    worst, allowed = 0.0, TOLERANCES[dtype]
    for place, expected in expectation.items():
        came = outcome[place]
        error = _error(came, expected)
        tolerance = _tolerance(case, came.dtype)
        if not error <= tolerance:
            return error, tolerance, f"{_name(place)}: {_too_much(error, tolerance)}"
        if error >= worst:
            worst, allowed = error, tolerance
    return worst, allowed, ""


def _too_much(error: float, tolerance: float) -> str:
    return f"error {error:.2e} > {tolerance:.2e}"


def _tolerance(case: Case, dtype: torch.dtype) -> float:
    if not dtype.is_floating_point:
        return 0.0
    return case.tolerances.get(dtype, TOLERANCES[dtype])


def _error(came: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest finite expected magnitude (at least 1e-3).

    Infinities and NaNs must stand where they are expected.
    """
    if came.shape != expected.shape:
        return math.inf
    if expected.numel() == 0:
        return 0.0
    if not came.dtype.is_floating_point:
        return float((came.to(expected.dtype) != expected).double().mean())
    came, expected = came.double(), expected.double()
    finite = expected.isfinite()
    same = torch.where(expected.isnan(), came.isnan(), came == expected)
    if not bool((same | finite).all()) or not bool(came[finite].isfinite().all()):
        return math.inf
    if not bool(finite.any()):
        return 0.0
    scale = max(float(expected[finite].abs().max()), 1e-3)
    return float((came[finite] - expected[finite]).abs().max()) / scale


def _name(place: str | int) -> str:
    return f"argument {place}" if isinstance(place, int) else place
