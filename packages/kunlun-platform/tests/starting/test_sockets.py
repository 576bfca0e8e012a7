# SPDX-License-Identifier: Apache-2.0
"""The folder of an engine's sockets: one for a process and its children, gone at its end."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.starting import sockets

ASK = """
import subprocess, sys
from vllm_kunlun.platforms.starting import sockets
print(sockets.get_open_zmq_ipc_path(), flush=True)
"""
PARENT = ASK + f"subprocess.run([sys.executable, '-c', {ASK!r}], check=True)\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short path, as a socket's must be; pytest's own may be too long."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


def run(code: str, folder: Path, **more: str) -> list[Path]:
    """Run it with its temporary files in ``folder``: the paths that it was given."""
    inherited = {name: value for name, value in os.environ.items() if name != sockets._VARIABLE}
    environment = {**inherited, "TMPDIR": str(folder), **more}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return [Path(line.removeprefix("ipc://")) for line in done.stdout.split()]


def test_the_folder_is_of_the_first_process_and_goes_with_it(folder: Path) -> None:
    first, second = run(PARENT, folder)
    assert first.parent == second.parent
    assert first != second
    assert first.parent.parent == folder
    assert list(folder.iterdir()) == []


def test_a_child_leaves_the_folder_to_its_parent(folder: Path) -> None:
    (path,) = run(ASK, folder, VLLM_KUNLUN_SOCKETS=str(folder))
    assert path.parent == folder
    assert folder.is_dir()


def test_a_folder_that_is_gone_is_made_anew(folder: Path) -> None:
    (path,) = run(ASK, folder, VLLM_KUNLUN_SOCKETS=str(folder / "gone"))
    assert path.parent.parent == folder
    assert list(folder.iterdir()) == []


def test_where_the_user_wants_it(folder: Path) -> None:
    (folder / "base").mkdir()
    (path,) = run(ASK, folder, VLLM_RPC_BASE_PATH=str(folder / "base"))
    assert path.parent.parent == folder / "base"
    assert list((folder / "base").iterdir()) == []


def test_a_forked_child_removes_nothing(folder: Path) -> None:
    fork = ASK + (
        "import os\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "assert os.path.isdir(sockets._folder())\n"
    )
    run(fork, folder)
    assert list(folder.iterdir()) == []


def test_a_path_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    monkeypatch.setenv("VLLM_KUNLUN_SOCKETS", str(folder))
    with pytest.raises(UnsupportedError, match="VLLM_RPC_BASE_PATH"):
        sockets.get_open_zmq_ipc_path()


def test_nobody_else_may_use_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_SOCKETS", "")
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(folder))
    path = sockets.get_open_zmq_ipc_path()
    made = Path(path.removeprefix("ipc://")).parent
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    # A socket's path has at most 107 bytes: ours leaves as much for the folder as vLLM's.
    assert len(path) == len(f"ipc://{folder}/{'0' * 36}") + 1
