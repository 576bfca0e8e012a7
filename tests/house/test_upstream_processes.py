# SPDX-License-Identifier: Apache-2.0
"""Processes in the place of Ray's: a failure in one of them is not lost."""

from __future__ import annotations

import os
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
