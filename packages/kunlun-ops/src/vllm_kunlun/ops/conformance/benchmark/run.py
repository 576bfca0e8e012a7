# SPDX-License-Identifier: Apache-2.0
"""Run benchmarks and set their times against the ceilings of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Maker, Pair
from vllm_kunlun.ops.conformance.benchmark.ceiling import Ceilings
from vllm_kunlun.ops.conformance.benchmark.timing import least_seconds

__all__ = ["Timing", "run", "time_one"]

TOLERANCES = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2, torch.int8: 2e-2}
"""Largest difference from torch's result, as a fraction of its largest value."""


@dataclass(frozen=True)
class Timing:
    """How one benchmark came out.

    Attributes:
        vendor_us, plain_us: least microseconds; None if that side could not run.
        bound: the ceiling that the work meets first.
        achieved: bytes or operations per second towards it.
        share: of the ceiling; above 1 where all data stay in a cache. None without a ceiling.
        error: difference from torch's result, as a fraction of its largest value.
        problem: why there is no time, or why it does not count; empty if all is well.
    """

    benchmark: Benchmark
    vendor_us: float | None = None
    plain_us: float | None = None
    bound: Literal["memory", "products"] = "memory"
    achieved: float | None = None
    share: float | None = None
    error: float | None = None
    problem: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as fast as plain torch."""
        if self.vendor_us is None or self.plain_us is None:
            return None
        return self.plain_us / self.vendor_us


def run(
    benchmarks: Iterable[Benchmark],
    maker: Maker,
    ceilings: Ceilings,
    seconds: float,
    progress: Callable[[Timing], object] = lambda timing: None,
) -> tuple[Timing, ...]:
    """Time all of them; ``seconds`` for each, ``progress`` after each."""
    timings = []
    with torch.inference_mode():
        for benchmark in benchmarks:
            timings.append(time_one(benchmark, maker, ceilings, seconds))
            progress(timings[-1])
    return tuple(timings)


def time_one(benchmark: Benchmark, maker: Maker, ceilings: Ceilings, seconds: float) -> Timing:
    """Build, compare once, time in turns. What raises is told in the timing."""
    try:
        pair = benchmark.build(maker)
        result = pair.vendor()
    except Exception as raised:  # noqa: BLE001 -- a card's library documents no errors
        return Timing(benchmark, problem=f"{type(raised).__name__}: {raised}")
    try:
        expected = pair.plain()
    except (RuntimeError, AttributeError) as raised:  # this torch lacks it on this device
        (vendor,) = least_seconds(pair.vendor, seconds=seconds, device=maker.device)
        problem = f"plain torch: {type(raised).__name__}: {raised}"
        return _against_ceiling(benchmark, pair, ceilings, vendor, None, None, problem)
    error = difference(result, expected) if pair.comparable else None
    problem = ""
    if error is not None and not error <= TOLERANCES[pair.dtype]:
        problem = f"the result differs from torch's by {error:.1e}"
    vendor, plain = least_seconds(pair.vendor, pair.plain, seconds=seconds, device=maker.device)
    return _against_ceiling(benchmark, pair, ceilings, vendor, plain, error, problem)


def difference(result: Tensor, expected: Tensor) -> float:
    """Largest difference as a fraction of the largest expected value."""
    result, expected = result.double(), expected.double()
    return float((result - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _against_ceiling(
    benchmark: Benchmark,
    pair: Pair,
    ceilings: Ceilings,
    vendor: float,
    plain: float | None,
    error: float | None,
    problem: str,
) -> Timing:
    bandwidth = max(ceilings.memory())
    products = ceilings.products(pair.dtype) if pair.operations else None
    moving = pair.moved_bytes / bandwidth
    multiplying = pair.operations / products if products else 0.0
    bound: Literal["memory", "products"] = "products" if multiplying > moving else "memory"
    work = pair.operations if bound == "products" else pair.moved_bytes
    return Timing(
        benchmark,
        vendor_us=vendor * 1e6,
        plain_us=None if plain is None else plain * 1e6,
        bound=bound,
        achieved=work / vendor,
        share=max(moving, multiplying) / vendor,
        error=error,
        problem=problem,
    )
