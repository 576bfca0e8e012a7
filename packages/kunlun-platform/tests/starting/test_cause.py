# SPDX-License-Identifier: Apache-2.0
"""The first exception of a process that cannot start reaches the process that waits for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.platforms.starting import cause

ENGINE, WORKER = "vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor"


@pytest.fixture(autouse=True)
def handed_over() -> Iterator[None]:
    cause.hand_over()
    cause.hand_over()
    yield
    for name in cause._LOGGERS:
        logging.getLogger(name).removeFilter(cause._note)


def fail(name: str, error: Exception, message: str = "EngineCore failed to start.") -> None:
    try:
        raise error
    except Exception:
        logging.getLogger(name).exception(message)


def test_the_first_one_counts() -> None:
    with cause.awaited() as found:
        assert found() is None
        fail(WORKER, CheckpointError("a is missing"), "WorkerProc failed to start.")
        fail(ENGINE, RuntimeError("see above"))
        assert found() == "a is missing"


def test_an_error_that_is_not_ours_comes_with_its_type() -> None:
    with cause.awaited() as found:
        fail(ENGINE, KeyError("a"))
        assert found() == "KeyError: 'a'"


def test_the_first_lines_of_a_long_text() -> None:
    assert cause.text_of(CheckpointError("\n".join("abcdefgh"))) == "a\nb\nc\nd\ne"


def test_an_engine_that_has_started_is_not_a_start() -> None:
    with cause.awaited() as found:
        fail(ENGINE, RuntimeError("later"), "EngineCore encountered a fatal error.")
        logging.getLogger(ENGINE).warning("EngineCore failed to start.")
        assert found() is None


def test_where_no_process_waits() -> None:
    assert envs.VLLM_KUNLUN_START_FAILURE is None
    fail(ENGINE, RuntimeError("alone"))


def test_why_an_engine_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_SOCKETS", str(tmp_path))
    assert cause.of_death() is None
    fail(ENGINE, RuntimeError("no memory"), "EngineCore encountered a fatal error.")
    client = logging.getLogger("vllm.v1.engine.core_client")
    client.error("Engine core proc %s died unexpectedly, shutting down client.", "EngineCore_DP0")
    assert cause.of_death() == "RuntimeError: no memory"


def test_a_worker_that_died_is_why_others_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_SOCKETS", str(tmp_path))
    fail(WORKER, RuntimeError("connection closed"), "WorkerProc hit an exception.")
    died = "Worker proc %s died unexpectedly, shutting down executor."
    logging.getLogger(WORKER).error(died, "VllmWorker-1")
    fail(ENGINE, RuntimeError("cancelled"), "EngineCore encountered a fatal error.")
    assert cause.of_death() == "Worker proc VllmWorker-1 died unexpectedly"


def test_a_death_on_another_host_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_SOCKETS", str(tmp_path / "there"))
    fail(ENGINE, RuntimeError("no memory"), "EngineCore encountered a fatal error.")
    assert cause.of_death() is None


def test_a_full_disk_hides_no_error() -> None:
    with envs.set_within("VLLM_KUNLUN_START_FAILURE", "/dev/full"):
        fail(ENGINE, RuntimeError("no memory"))
    cause._write(Path("/dev/full"), "no memory", "w")
    with cause.awaited() as found:
        Path(envs.VLLM_KUNLUN_START_FAILURE).touch()
        assert found() is None


def test_nothing_stays_behind() -> None:
    with cause.awaited():
        folder = Path(envs.VLLM_KUNLUN_START_FAILURE).parent
        assert folder.is_dir()
    assert not folder.exists()
    with envs.set_within("VLLM_KUNLUN_START_FAILURE", str(folder / "cause")):
        fail(ENGINE, RuntimeError("on another host"))
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_hides_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with envs.set_within("VLLM_KUNLUN_START_FAILURE", str(tmp_path / "file" / "cause")):
        fail(ENGINE, RuntimeError("the cause"))
