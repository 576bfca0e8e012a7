# SPDX-License-Identifier: Apache-2.0
"""Cases in a process of their own: however a function breaks there, it is told here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs
from vllm_kunlun.ops.conformance.outcomes import FunctionOutcome
from vllm_kunlun.ops.conformance.worker import Worker, run_case
from vllm_kunlun.ops.vendor_ops.library import use_libraries

SOURCE = """
import os, signal, time
from vllm_kunlun.emulator import kunlun_ops

def raises(*args, **kwargs):
    raise ZeroDivisionError(os.getpid())

def crashes(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGSEGV)

def leaves(*args, **kwargs):
    os._exit(7)

def hangs(*args, **kwargs):
    time.sleep(600)

kunlun_ops.gemma_rmsnorm = raises
kunlun_ops.add_rmsnorm = crashes
kunlun_ops.attention_merge_stage = leaves
kunlun_ops.moe_post = hangs
kunlun_ops.I8_mqa_logits = raises
del kunlun_ops.matmul
"""
"""Planted in the process that runs the cases."""


def worker_of(device: str, timeout_seconds: float) -> Worker:
    return Worker(device, partial(exec, SOURCE, {}), timeout_seconds)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with worker_of("cpu", 60) as worker:
        yield worker


def messages(outcome: FunctionOutcome) -> set[str]:
    return {case.message for case in outcome.cases}


def test_all_cases_of_a_function_run_in_one_process(worker: Worker) -> None:
    outcome = worker.check("kunlun_ops.gemma_rmsnorm")
    assert [case.dtype for case in outcome.cases] == ["float32", "float16", "bfloat16"]
    (message,) = messages(outcome)
    assert message.startswith("ZeroDivisionError: ")
    assert (outcome.status, outcome.not_run, outcome.worst) == ("fail", 0, outcome.cases[0])


def test_a_function_that_the_library_lacks(worker: Worker) -> None:
    assert worker.check("kunlun_ops.matmul") == FunctionOutcome("kunlun_ops.matmul", missing=True)


def test_a_function_that_ends_the_process(worker: Worker) -> None:
    """Its other cases do not run; those of the next function do."""
    outcome = worker.check("kunlun_ops.add_rmsnorm")
    (case,) = outcome.cases
    assert (case.message, case.error) == ("the process ended: signal SIGSEGV", None)
    assert outcome.not_run > 0
    following = worker.check("kunlun_ops.l2norm")
    assert (following.status, following.not_run) == ("pass", 0)


def test_a_form_that_ends_the_process_ends_its_own_cases_only(worker: Worker) -> None:
    outcome = worker.check("kunlun_ops.attention_merge_stage")
    died = "the process ended: exit code 7"
    for form in ("tokens-first", "heads-first"):
        first, *others = (case.message for case in outcome.cases if case.form == form)
        assert first == died
        assert set(others) == {f"not run; in an earlier case of this form {died}"}
    assert outcome.not_run == 0


def test_a_function_that_hangs() -> None:
    with worker_of("cpu", timeout_seconds=0.5) as worker:
        outcome = worker.check("kunlun_ops.moe_post")
    assert messages(outcome) == {"no answer within 0.5 s"}
    assert outcome.not_run > 0


def test_on_a_card_an_error_ends_the_process() -> None:
    """Any device but "cpu" counts as a card: after a device error it cannot be used any more."""
    with worker_of("cpu:0", 60) as worker:
        outcome = worker.check("kunlun_ops.I8_mqa_logits")
    assert len(messages(outcome)) == len(outcome.cases) == 2  # each names its process


def doubled(**settles: str) -> Case:
    """``2 x``; a library may return ``3 x`` instead."""

    def build(inputs: Inputs) -> Call:
        x = inputs.normal(4)
        otherwise = {"it is three times": {"return": 3 * x.double()}}
        return Call((x,), expected={"return": 2 * x.double()}, otherwise=otherwise)

    return Case("kunlun_ops.doubled", "four", build, **settles)  # type: ignore[arg-type]


def test_a_run_tells_what_it_settles() -> None:
    case = doubled(assumption="a", finding="b", form="c")
    with use_libraries(kunlun_ops=SimpleNamespace(doubled=lambda x: 2 * x)):
        outcome = run_case(case, torch.float16, "cpu")
    assert outcome is not None
    assert (outcome.label, outcome.dtype) == ("four", "float16")
    assert outcome.passed
    assert (outcome.error, outcome.tolerance, outcome.otherwise) == (0.0, 3e-3, "")
    assert (outcome.assumption, outcome.finding, outcome.form) == ("a", "b", "c")


def fails(x: torch.Tensor) -> None:
    raise RuntimeError("planted")


@pytest.mark.parametrize(
    ("function", "message", "error", "otherwise"),
    [
        (lambda x: 3 * x, "return: error 5.00e-01 > 2.00e-05", 0.5, "it is three times"),
        (lambda x: 4 * x, "return: error 1.00e+00 > 2.00e-05", 1.0, ""),
        (fails, "RuntimeError: planted", None, ""),
    ],
)
def test_a_run_that_fails(
    function: Callable[[torch.Tensor], object], message: str, error: float | None, otherwise: str
) -> None:
    with use_libraries(kunlun_ops=SimpleNamespace(doubled=function)):
        outcome = run_case(doubled(), torch.float32, "cpu")
    assert outcome is not None
    assert (outcome.message, outcome.otherwise) == (message, otherwise)
    assert outcome.error == (None if error is None else pytest.approx(error, rel=1e-3))


def test_a_run_of_a_function_that_the_library_lacks() -> None:
    with use_libraries(kunlun_ops=SimpleNamespace()):
        assert run_case(doubled(), torch.float32, "cpu") is None
