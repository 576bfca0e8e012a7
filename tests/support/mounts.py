# SPDX-License-Identifier: Apache-2.0
"""A process that sees other mounts than this one: a root that is read-only, a disk that is full."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["filled", "may_mount", "read_only"]

_SCRIPT = """\
mount --make-rprivate / || exit
mount -o remount,bind,ro / || exit
for folder in $1; do mount -t tmpfs -o size=$2 none "$folder" || exit; done
shift 2
exec "$@"
"""


def read_only(command: list[str], *writable: Path, size: str = "64m") -> list[str]:
    """``command`` where / is read-only and each folder of ``writable`` a new one in memory.

    Other mounts below /, such as /dev/shm, stay as they are.
    """
    folders = " ".join(map(str, writable))
    return ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", folders, size, *command]


def may_mount() -> bool:
    """Whether this process may do so: it needs root, and a kernel that lets it."""
    return subprocess.run(read_only(["true"]), capture_output=True, check=False).returncode == 0


def filled(command: list[str], folder: Path) -> list[str]:
    """``command`` behind a file in ``folder`` that takes all the room there is."""
    fill = 'cat /dev/zero > "$0/fill" 2>/dev/null; exec "$@"'
    return ["sh", "-c", fill, str(folder), *command]
