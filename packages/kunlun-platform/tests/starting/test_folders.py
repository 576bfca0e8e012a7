# SPDX-License-Identifier: Apache-2.0
"""A folder for the processes of an engine, or one sentence that says what to set."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.starting import folders


def test_no_other_user_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(tmp_path))
    made = Path(folders.make())
    assert made.parent == tmp_path
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_nowhere_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(UnsupportedError, match=r"\(No such file or directory\): set TMPDIR"):
        folders.make()


def test_nowhere_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    folders.check()

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(UnsupportedError, match=r"found in \['/tmp'\]\): set TMPDIR"):
        folders.check()
