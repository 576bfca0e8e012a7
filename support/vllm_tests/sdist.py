# SPDX-License-Identifier: Apache-2.0
"""vLLM's source distributions: downloaded by pip, held to a hash, kept in a folder."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

from vllm_tests.errors import UpstreamError

__all__ = ["SHA256", "TREES", "fetch", "unpack", "verify"]

SHA256 = {
    "0.14.1": "c7c6d0a729d29e70ac10baacbc7186930da24f8ae34f60451330527ff0be84ac",
    "0.16.0": "1f684bb31fbef59d862e2fe666e23a41f1d39d93f86215ce1ce1db89a8f5665b",
}
"""The releases around 0.15.1, which itself has no source distribution on PyPI."""

TREES = ("tests", "examples", "pyproject.toml")
"""What of a release the tests need; vLLM itself is the installed one."""


def fetch(version: str, folder: Path) -> Path:
    """The archive of ``version`` in ``folder``, downloaded if it is not there yet.

    Raises:
        UpstreamError: pip cannot download it, or it is not the file that was pinned.
    """
    archive = folder / f"vllm-{version}.tar.gz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                # pip asks an archive for its metadata, and vLLM's puts a device into the version.
                *("env", "VLLM_TARGET_DEVICE=empty", f"VLLM_VERSION_OVERRIDE={version}"),
                *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:"),
                *("--no-build-isolation", f"--dest={folder}", f"vllm=={version}"),
            ],
            capture_output=True,
            text=True,
        )
        if not archive.exists():
            raise UpstreamError(
                f"pip did not download vllm=={version} ({done.stderr.strip()[-300:]}): "
                f"put {archive.name} of PyPI into {folder}"
            )
    verify(archive, SHA256[version])
    return archive


def verify(archive: Path, expected: str) -> None:
    """Hold ``archive`` to its SHA-256.

    Raises:
        UpstreamError: it has another one.
    """
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != expected:
        raise UpstreamError(
            f"{archive} has SHA-256 {found}, expected {expected}: remove it and run again"
        )


def unpack(archive: Path, into: Path) -> Path:
    """The folder in ``into`` with ``TREES`` of the archive, unpacked once."""
    folder = into / archive.name.removesuffix(".tar.gz")
    if not folder.exists():
        with tarfile.open(archive) as opened:
            wanted = [
                member
                for member in opened.getmembers()
                if member.name.split("/")[1:2] and member.name.split("/")[1] in TREES
            ]
            opened.extractall(into / "partial", members=wanted, filter="data")
        (into / "partial" / folder.name).rename(folder)
    return folder
