# SPDX-License-Identifier: Apache-2.0
"""Cases in a process of their own, so that one function can crash or hang and the rest go on."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

import torch

from vllm_kunlun.ops.conformance.case import Case
from vllm_kunlun.ops.conformance.cases import CASES
from vllm_kunlun.ops.conformance.outcomes import CaseOutcome, FunctionOutcome
from vllm_kunlun.ops.conformance.probes import PROBES
from vllm_kunlun.ops.conformance.run import run
from vllm_kunlun.ops.vendor_ops.library import libraries
from vllm_kunlun.platforms.errors import VendorLibraryError

__all__ = ["TIMEOUT_SECONDS", "Worker", "run_case"]

TIMEOUT_SECONDS = 300.0
"""For one case; the first on a card loads the kernels."""
START_SECONDS = 600.0
"""For the imports of a new process."""


def _runs(name: str) -> list[tuple[Case, torch.dtype]]:
    """Every run of one function, plain cases first: the same list in either process."""
    cases = [case for case in (*CASES, *PROBES) if case.function == name]
    return [(case, dtype) for case in cases for dtype in case.dtypes]


def run_case(case: Case, dtype: torch.dtype, device: str) -> CaseOutcome | None:
    """One run; whatever it raises is how it failed. None if the library has no such function."""
    try:
        result = run(case, dtype, device)
    except VendorLibraryError:
        return None
    except Exception as raised:  # noqa: BLE001 -- the outcome
        return _failed(case, dtype, f"{type(raised).__name__}: {raised}")
    return _outcome(case, dtype, result.message, result.error, result.tolerance, result.otherwise)


def _failed(case: Case, dtype: torch.dtype, message: str) -> CaseOutcome:
    """Of a run that gave no result."""
    return _outcome(case, dtype, message)


def _outcome(
    case: Case,
    dtype: torch.dtype,
    message: str,
    error: float | None = None,
    tolerance: float | None = None,
    otherwise: str = "",
) -> CaseOutcome:
    return CaseOutcome(
        label=case.label,
        dtype=str(dtype).removeprefix("torch."),
        message=message,
        error=error,
        tolerance=tolerance,
        assumption=case.assumption,
        otherwise=otherwise,
        finding=case.finding,
        form=case.form,
    )


def _serve(connection: Connection, device: str, prepare: Callable[[], object] | None) -> None:
    """Answer (function, number of the run) with an outcome until the other end closes."""
    libraries()
    if prepare is not None:
        prepare()
    connection.send(None)  # ready
    while True:
        try:
            name, index = connection.recv()
        except EOFError:
            return
        case, dtype = _runs(name)[index]
        connection.send(run_case(case, dtype, device))


class _Dead(Exception):
    """The process ended or had to be ended; the text says how."""


class Worker:
    """Runs functions one after the other; to be used in a ``with`` statement.

    Args:
        device: torch's name of the device.
        prepare: called in each new process before anything else, for tests.
        timeout_seconds: for one case.
    """

    def __init__(
        self,
        device: str,
        prepare: Callable[[], object] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._device = device
        self._prepare = prepare
        self._timeout_seconds = timeout_seconds
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def check(self, name: str) -> FunctionOutcome:
        """Run the cases of one function, up to one that ends the process.

        A form of a card finding that ends it ends its own cases only.
        """
        runs, outcomes, dead = _runs(name), [], dict[tuple[str | None, str | None], str]()
        for index, (case, dtype) in enumerate(runs):
            if (death_of_form := dead.get((case.finding, case.form))) is not None:
                message = f"not run; in an earlier case of this form {death_of_form}"
                outcomes.append(_failed(case, dtype, message))
                continue
            try:
                outcome = self._ask(name, index)
            except _Dead as death:
                outcomes.append(_failed(case, dtype, str(death)))
                if case.finding is None:
                    break
                dead[case.finding, case.form] = str(death)
                continue
            if outcome is None:
                return FunctionOutcome(name, missing=True)
            outcomes.append(outcome)
            if outcome.error is None and self._device != "cpu":
                self._stop()  # after a device error a process cannot use the card any more
        return FunctionOutcome(name, tuple(outcomes), not_run=len(runs) - len(outcomes))

    def _ask(self, name: str, index: int) -> CaseOutcome | None:
        if self._connection is None:
            self._connection = self._start()
            self._receive(self._connection, START_SECONDS)
        self._connection.send((name, index))
        return self._receive(self._connection, self._timeout_seconds)

    def _receive(self, connection: Connection, seconds: float) -> CaseOutcome | None:
        try:
            if connection.poll(seconds):
                return connection.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            raise _Dead(f"the process ended: {self._end()}") from None
        self._stop()
        raise _Dead(f"no answer within {seconds:g} s")

    def _start(self) -> Connection:
        # Not by fork: a process that has used the device, or threads, cannot be copied.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._device, self._prepare)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        return ours

    def _end(self) -> str:
        """How the process ended by itself."""
        assert self._process is not None
        self._process.join(10)
        code = self._process.exitcode
        self._stop()
        if code is not None and code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._connection = self._process = None
