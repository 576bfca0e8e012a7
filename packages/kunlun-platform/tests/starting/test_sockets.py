# SPDX-License-Identifier: Apache-2.0
"""The folder of an engine's sockets: one for a process and its children, gone at its end."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
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


def run(code: str, folder: Path, **more: str) -> list[Path]:
    """Run it with its temporary files in ``folder``: the paths that it was given."""
    inherited = {name: value for name, value in os.environ.items() if name != sockets._VARIABLE}
    environment = {**inherited, "TMPDIR": str(folder), **more}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return [Path(line.removeprefix("ipc://")) for line in done.stdout.split()]


def test_the_folder_is_of_the_first_process_and_goes_with_it(tmp_path: Path) -> None:
    first, second = run(PARENT, tmp_path)
    assert first.parent == second.parent
    assert first != second
    assert first.parent.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_child_leaves_the_folder_to_its_parent(tmp_path: Path) -> None:
    (path,) = run(ASK, tmp_path, VLLM_KUNLUN_SOCKETS=str(tmp_path))
    assert path.parent == tmp_path
    assert tmp_path.is_dir()


def test_a_folder_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    (path,) = run(ASK, tmp_path, VLLM_KUNLUN_SOCKETS=str(tmp_path / "gone"))
    assert path.parent.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_where_the_user_wants_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (path,) = run(ASK, tmp_path, VLLM_RPC_BASE_PATH=str(tmp_path / "base"))
    assert path.parent.parent == tmp_path / "base"
    assert list((tmp_path / "base").iterdir()) == []


def test_a_forked_child_removes_nothing(tmp_path: Path) -> None:
    fork = ASK + (
        "import os\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "assert os.path.isdir(sockets._folder())\n"
    )
    run(fork, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    monkeypatch.setenv("VLLM_KUNLUN_SOCKETS", str(folder))
    with pytest.raises(UnsupportedError, match="VLLM_RPC_BASE_PATH"):
        sockets.get_open_zmq_ipc_path()


def test_nobody_else_may_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KUNLUN_SOCKETS", "")
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(tmp_path))
    path = sockets.get_open_zmq_ipc_path()
    folder = Path(path.removeprefix("ipc://")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # A socket's path has at most 107 bytes: ours leaves as much for the folder as vLLM's.
    assert len(path) == len(f"ipc://{tmp_path}/{'0' * 36}") + 1
