# SPDX-License-Identifier: Apache-2.0
"""The error of a failed start ends with the cause, if there is one to tell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import EngineStartError
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.starting import engines


@contextlib.contextmanager
def start(cause: str | None, *, fails: bool = True) -> Iterator[str]:
    yield "started"
    if cause is not None:
        Path(envs.VLLM_KUNLUN_START_FAILURE).write_text(cause)
    if fails:
        raise RuntimeError("See root cause above.")


@pytest.fixture(autouse=True)
def _original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_ledger, "original", {"engine-start": start}.__getitem__)


def test_the_cause_is_all_that_is_said() -> None:
    with (
        pytest.raises(EngineStartError, match=r"not start: a is missing$") as caught,
        engines.launch_core_engines("a is missing"),
    ):
        pass
    assert caught.value.__suppress_context__


def test_vllms_error_where_no_process_left_a_cause() -> None:
    with pytest.raises(RuntimeError, match="See root"), engines.launch_core_engines(None):
        pass


def test_a_start_that_works() -> None:
    with engines.launch_core_engines(None, fails=False) as started:
        assert started == "started"
