# SPDX-License-Identifier: Apache-2.0
"""Each probe passes on the emulator, could fail, and names what a library does instead."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import pytest

from vllm_kunlun.ops.conformance import Case, Inputs, Outcome, compare, run
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.conformance.probes import PROBES
from vllm_kunlun.ops.contract.assumptions import ASSUMPTIONS
from vllm_kunlun.ops.vendor_ops.library import function, use_libraries

SETTLING = [case for case in (*CASES, *PROBES) if case.assumption is not None]


def name(case: Case) -> str:
    return f"{case.function}-{case.label}"


@pytest.mark.parametrize("probe", PROBES, ids=name)
def test_the_emulator_does_as_it_assumes(probe: Case) -> None:
    for dtype in probe.dtypes:
        result = run(probe, dtype)
        assert result.passed, result.message


def test_labels_are_unique() -> None:
    labels = [name(case) for case in (*CASES, *PROBES)]
    assert len(set(labels)) == len(labels)


def test_they_settle_assumptions_that_there_are() -> None:
    assert {case.assumption for case in SETTLING} <= {each.id for each in ASSUMPTIONS}


@pytest.mark.parametrize("case", SETTLING, ids=name)
def test_what_is_assumed_fits_no_alternative(case: Case) -> None:
    """Else the case could not tell them apart."""
    surface, called = case.function.split(".")
    for dtype in case.dtypes:
        call = case.build(Inputs(0, dtype))
        outcome = Outcome(call, function(surface, called)(*call.args, **call.kwargs))
        for meaning, expectation in call.otherwise.items():
            assert compare(case, dtype, outcome, expectation)[2], meaning


def alternatives() -> list[Any]:
    """Those whose values are known; the others are judged."""
    found = []
    for case in SETTLING:
        call = case.build(Inputs(0, case.dtypes[0]))
        for meaning, expectation in call.otherwise.items():
            if not callable(expectation):
                found.append(pytest.param(case, meaning, id=f"{name(case)}-{meaning}"))
    return found


@pytest.mark.parametrize(("case", "meaning"), alternatives())
def test_a_library_that_does_otherwise_is_told_so(case: Case, meaning: str) -> None:
    """The library leaves behind exactly what the alternative says."""
    surface, called = case.function.split(".")
    built: list[Any] = []

    def build(inputs: Inputs) -> Any:
        built.append(case.build(inputs))
        return built[-1]

    def library(*args: Any, **kwargs: Any) -> Any:
        results: dict[Any, Any] = {}
        for place, values in built[-1].otherwise[meaning].items():
            if str(place).startswith("return"):
                results[place] = values
            else:
                (args[place] if isinstance(place, int) else kwargs[place]).copy_(values)
        return results.get("return", [results.get(f"return.{n}") for n in range(4)])

    with use_libraries(**{surface: types.SimpleNamespace(**{called: library})}):
        result = run(dataclasses.replace(case, build=build), case.dtypes[0])
    assert not result.passed
    assert result.otherwise == meaning
