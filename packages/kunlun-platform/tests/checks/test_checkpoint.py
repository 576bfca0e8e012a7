# SPDX-License-Identifier: Apache-2.0
"""Damaged safetensors files are named before anything is built from them."""

from __future__ import annotations

import json
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


FORMS = {"hf": "model", "original": "consolidated"}


@pytest.mark.parametrize("kept", FORMS)
def test_a_repository_of_two_forms_of_which_one_was_downloaded(tmp_path: Path, kept: str) -> None:
    for stem in FORMS.values():
        names = {f"w{n}": f"{stem}-0000{n}-of-00002.safetensors" for n in (1, 2)}
        (tmp_path / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    files = [tmp_path / f"{FORMS[kept]}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for file in files:
        save_file({"weight": numpy.ones(64, numpy.float32)}, file)
    (tmp_path / "pytorch_model-00001-of-00003.bin").write_bytes(b"not read beside the others")
    checkpoint.check_files(tmp_path)
    files[0].unlink()
    with pytest.raises(UnsupportedError, match=rf"lacks 1 .*{files[0].name}.*index\.json names it"):
        checkpoint.check_files(tmp_path)
