# SPDX-License-Identifier: Apache-2.0
"""Benchmarks do the same work on both sides; how long it takes is no test."""

from __future__ import annotations

import dataclasses
import types

import pytest
import torch

from vllm_kunlun.ops.conformance.benchmark.case import Benchmark, Maker, Pair
from vllm_kunlun.ops.conformance.benchmark.cases import benchmarks
from vllm_kunlun.ops.conformance.benchmark.ceiling import Ceilings
from vllm_kunlun.ops.conformance.benchmark.run import TOLERANCES, Timing, difference, run, time_one
from vllm_kunlun.ops.contract.functions import contract
from vllm_kunlun.ops.vendor_ops.library import Libraries, libraries, use_libraries

MAKER = Maker(torch.float32, "cpu")


@pytest.fixture(scope="module")
def ceilings() -> Ceilings:
    return Ceilings("cpu", 0.0, copied_bytes=1 << 16, largest=256)


def name(benchmark: Benchmark) -> str:
    return f"{benchmark.area}-{benchmark.functions[-1]}-{benchmark.size}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("benchmark", benchmarks("tiny"), ids=name)
def test_both_sides_agree(benchmark: Benchmark, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        pair = benchmark.build(Maker(dtype, "cpu"))
        result, expected = pair.vendor(), pair.plain()
    assert result.shape == expected.shape
    assert pair.moved_bytes > 0
    if pair.comparable:
        assert difference(result, expected) <= TOLERANCES[pair.dtype]


@pytest.mark.parametrize("benchmark", benchmarks("tiny"), ids=name)
def test_it_calls_the_functions_that_it_names(benchmark: Benchmark) -> None:
    called: set[str] = set()
    present = libraries()

    class Watched(types.SimpleNamespace):
        def __init__(self, surface: str) -> None:
            super().__init__(surface=surface)

        def __getattr__(self, function: str) -> object:
            called.add(f"{self.surface}.{function}")
            return getattr(getattr(present, self.surface), function)

    with use_libraries(**{surface: Watched(surface) for surface in Libraries._fields}):
        benchmark.build(MAKER).vendor()
    assert called == set(benchmark.functions)


def test_what_must_be_covered_is() -> None:
    areas = {each.area for each in benchmarks("full")}
    assert areas >= {
        "MoE", "decode attention", "prefill attention", "norm", "rotary", "sampling",
        "int8 product", "int8 quantisation", "int4 product", "int4 unpacking",
    }  # fmt: skip
    known = {each.name for each in contract()}
    for scale in ("full", "quick", "tiny"):
        chosen = benchmarks(scale)  # type: ignore[arg-type]
        assert {function for each in chosen for function in each.functions} <= known
        assert {each.area for each in chosen} == areas
        assert len({name(each) for each in chosen}) == len(chosen)


def planted(vendor: object, plain: object) -> Benchmark:
    pair = Pair(vendor, plain, 1000, 0, torch.float32)  # type: ignore[arg-type]
    return Benchmark("planted", ("kunlun_ops.rmsnorm",), "1", lambda make: pair)


def fails() -> torch.Tensor:
    raise RuntimeError("planted")


def test_a_side_that_cannot_run_is_told(ceilings: Ceilings) -> None:
    one = torch.ones(3)
    broken = time_one(planted(fails, lambda: one), MAKER, ceilings, 0.0)
    assert (broken.problem, broken.ratio, broken.vendor_us) == ("RuntimeError: planted", None, None)
    alone = time_one(planted(lambda: one, fails), MAKER, ceilings, 0.0)
    assert alone.problem == "plain torch: RuntimeError: planted"
    assert alone.ratio is None
    assert alone.vendor_us is not None


def test_a_wrong_result_is_told(ceilings: Ceilings) -> None:
    wrong = planted(lambda: torch.ones(3), lambda: torch.full((3,), 2.0))
    (timing,) = run([wrong], MAKER, ceilings, 0.0)
    assert timing.error == pytest.approx(0.5)
    assert "differs from torch's by 5.0e-01" in timing.problem
    lost = planted(lambda: torch.full((3,), torch.nan), lambda: torch.ones(3))
    assert time_one(lost, MAKER, ceilings, 0.0).problem


def test_the_share_is_of_the_ceiling_that_is_met_first() -> None:
    ceilings = Ceilings("cpu")
    ceilings._memory = (50.0, 100.0)
    ceilings._products = {torch.float32: 1e3}

    def timing(moved: int, operations: int) -> Timing:
        pair = Pair(lambda: torch.ones(1), lambda: torch.ones(1), moved, operations, torch.float32)
        benchmark = Benchmark("planted", (), "1", lambda make: pair)
        return time_one(benchmark, MAKER, ceilings, 0.0)

    memory, products = timing(1000, 10), timing(10, 1000)
    assert (memory.bound, products.bound) == ("memory", "products")
    for each, work, ceiling in ((memory, 1000, 100.0), (products, 1000, 1e3)):
        assert each.vendor_us is not None
        assert each.achieved == pytest.approx(work / (each.vendor_us * 1e-6))
        assert each.share == pytest.approx(each.achieved / ceiling)


def test_the_ratio_is_torch_over_vendor() -> None:
    timing = Timing(benchmarks("tiny")[0], vendor_us=2.0, plain_us=6.0)
    assert timing.ratio == 3.0
    assert dataclasses.replace(timing, plain_us=None).ratio is None
