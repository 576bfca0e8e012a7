# SPDX-License-Identifier: Apache-2.0
"""Loops compiled by numba share torch's threads and leave them as they were."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching

from vllm_kunlun.ops import compiled


def no_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])


def full_disk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def save(self: object, key: object, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", save)


def cut_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    compiled.compiled(ADDS)(add_one)(np.zeros(3))
    (index,) = folder.rglob("*.nbi")
    index.write_bytes(b"")


def cut_code(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    compiled.compiled(ADDS)(add_one)(np.zeros(3))
    (code,) = folder.rglob("*.nbc")
    code.write_bytes(code.read_bytes()[:100])


ADDS = numba.void(numba.float64[:])


def add_one(values: np.ndarray) -> None:
    for index in numba.prange(values.shape[0]):
        values[index] += 1


@pytest.mark.parametrize("fault", [no_folder, full_disk, cut_index, cut_code])
def test_a_cache_that_fails_costs_time_and_one_line(fault, monkeypatch, tmp_path, caplog) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled._say_once_that_nothing_is_kept.cache_clear()
    fault(monkeypatch, tmp_path)
    values = np.zeros(1000)
    with caplog.at_level(logging.WARNING, "vllm.kunlun"):
        compiled.compiled(ADDS)(add_one)(values)
    assert (values == 1).all()
    assert [record.message.count("NUMBA_CACHE_DIR") for record in caplog.records] == [1]


def test_code_that_is_kept_follows_the_files_beside_it(tmp_path) -> None:
    """numba itself compares a loop's own file alone, and would run what the other one was."""
    helper, loop = tmp_path / "helper.py", tmp_path / "loop.py"
    loop.write_text(
        "import helper, numba\n"
        "from vllm_kunlun.ops.compiled import compiled\n"
        "@compiled(numba.float64(numba.float64))\n"
        "def double(x):\n    return helper.times(x)\n"
        "print(double(21.0), sum(double._machine_code.stats.cache_hits.values()))\n"
    )
    found = []
    for factor in (2, 2, 3):
        helper.write_text(f"import numba\n@numba.njit\ndef times(x):\n    return {factor} * x\n")
        printed = subprocess.run(
            [sys.executable, str(loop)], capture_output=True, check=True, text=True
        ).stdout
        found.append(printed.split())
    assert found == [["42.0", "0"], ["42.0", "1"], ["63.0", "0"]]


def test_an_observer_can_make_the_calls_again() -> None:
    seen: list[tuple[object, ...]] = []
    values = np.zeros(3)
    loop = compiled.compiled(ADDS)(add_one)
    with compiled.observed(lambda function, arguments: seen.append((function, *arguments))):
        compiled.use_threads(3)
        loop(values)
    loop(values)
    assert [each[1] is values for each in seen] == [False, True]
    for function, *arguments in seen:
        function(*arguments)
    assert (values == 3).all()


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


def clear_and_add(values: np.ndarray) -> None:
    sums = np.zeros(values.shape[0])
    for index in numba.prange(values.shape[0]):
        values[index] += 1 + sums[index]


def test_only_what_says_so_runs_on_threads(monkeypatch, tmp_path) -> None:
    """A region that clears an array costs more than most steps' loops."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled.compiled(ADDS)(add_one)(np.zeros(1))  # numba may change the options that it reads
    loop = compiled.compiled(ADDS)(clear_and_add)
    values = np.zeros(10)
    loop(values)
    assert (values == 1).all()
    (version,) = loop._machine_code.overloads.values()
    regions = version.metadata["parfor_diagnostics"].get_parfors_simple(print_loop_search=False)
    assert len(regions) == 1
