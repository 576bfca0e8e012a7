# SPDX-License-Identifier: Apache-2.0
"""Damaged safetensors files are named before anything is built from them."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from vllm_kunlun.platforms.checks import checkpoint
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        save_file({"weight": numpy.ones(64, numpy.float32)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    return tmp_path


def test_whole_files(folder: Path) -> None:
    checkpoint.check_files(folder)


@pytest.mark.parametrize("bytes_left", [0, 7, 100, -1])
def test_a_file_that_was_cut_off(folder: Path, bytes_left: int) -> None:
    file = folder / "b.safetensors"
    file.write_bytes(file.read_bytes()[:bytes_left])
    size = file.stat().st_size
    with pytest.raises(UnsupportedError, match=rf"b\.safetensors \({size} bytes\).*download it ag"):
        checkpoint.check_files(folder)


def test_a_file_that_cannot_be_opened(folder: Path) -> None:
    (folder / "c.safetensors").symlink_to(folder / "a_folder")
    (folder / "a_folder").mkdir()
    with pytest.raises(UnsupportedError, match=r"c\.safetensors"):
        checkpoint.check_files(folder)
