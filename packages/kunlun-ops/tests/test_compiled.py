# SPDX-License-Identifier: Apache-2.0
"""Loops compiled by numba share torch's threads and leave them as they were."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from vllm_kunlun.ops import compiled


def test_parallel_regions_of_torchs_openmp_do_not_nest_after_a_compiled_loop() -> None:
    """Nested regions made torch's attention a hundred times slower."""

    @numba.njit(parallel=True)
    def count(values: np.ndarray) -> None:
        for index in numba.prange(values.shape[0]):
            values[index] += 1

    values = np.zeros(1000)
    compiled.use_threads(1 << 20)
    count(values)
    assert values.sum() == 1000
    if numba.threading_layer() != "omp":
        pytest.skip("no system-wide OpenMP library here, so numba runs its own threads")
    (torchs,) = {
        line.split()[-1]
        for line in open("/proc/self/maps")  # noqa: SIM115
        if "gomp" in line and "/torch/" in line
    }
    assert ctypes.CDLL(torchs).omp_get_max_active_levels() == 1


def test_the_number_of_threads_stays_as_the_user_set_it() -> None:
    """numba's start sets OpenMP's number to that of the cores, for everybody in the process."""
    program = (
        "import torch; from vllm_kunlun.emulator import kunlun_ops; "
        "x = torch.ones(64, 512); kunlun_ops.rmsnorm(x, torch.ones(512), x.clone(), 1e-6); "
        "print(torch.get_num_threads())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"},
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    assert printed.split()[-1] == "1"


def test_importing_the_emulator_starts_no_thread_and_sets_nothing_of_openmp() -> None:
    program = (
        "import ctypes, os, torch; levels = ctypes.CDLL(None).omp_get_max_active_levels; "
        "before = levels(), len(os.listdir('/proc/self/task')); "
        "from vllm_kunlun.emulator import flash_attn, kunlun_ops, xspeedgate_ops; "
        "after = levels(), len(os.listdir('/proc/self/task')); "
        "print(before == after, before, after)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    ).stdout
    assert printed.startswith("True"), printed
