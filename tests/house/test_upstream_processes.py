# SPDX-License-Identifier: Apache-2.0
"""Processes in the place of Ray's and of the card: what fails, or is left, is not lost."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from vllm_tests import processes
from vllm_tests.errors import UpstreamError


@processes.remote(num_gpus=1)
def write(folder: Path, rank: int) -> None:
    if rank == 2:
        raise SystemError("the third one")
    (folder / str(rank)).write_text(str(os.getpid()))


def test_each_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    processes.get([write.remote(tmp_path, rank) for rank in range(2)])
    written = {file.read_text() for file in tmp_path.iterdir()}
    assert len(written) == 2 and str(os.getpid()) not in written


def test_a_failure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match=r"ended with \[0, 1\]"):
        processes.get([write.remote(tmp_path, rank) for rank in (0, 2)])


def test_it_waits_for_what_another_process_started() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 1 & wait"]):
        began = time.monotonic()
        processes.wait_until_ended(timeout_s=60, devices=[0], threshold_bytes=1)
        assert time.monotonic() - began > 0.9


def test_what_is_left_is_named() -> None:
    with subprocess.Popen(["sleep", "60"]) as left:
        with pytest.raises(UpstreamError, match=r"there still are.*sleep 60"):
            processes.wait_until_ended(timeout_s=0.2, devices=[0], threshold_bytes=1)
        left.terminate()
