# SPDX-License-Identifier: Apache-2.0
"""Folders for what the processes of an engine tell each other."""

from __future__ import annotations

import tempfile

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["check", "make"]


def check() -> None:
    """Whether there is a folder for temporary files: torch itself cannot be imported without.

    Raises:
        UnsupportedError: there is none.
    """
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise UnsupportedError(
            f"temporary files cannot be written anywhere ({error.strerror}): set TMPDIR to a "
            "folder that can be written, such as a volume in memory."
        ) from error


def make() -> str:
    """A new folder that no other user may enter; whoever makes it removes it.

    Raises:
        UnsupportedError: there is nowhere to make one.
    """
    try:
        return tempfile.mkdtemp(prefix="vllm-kunlun-", dir=envs.VLLM_RPC_BASE_PATH)
    except OSError as error:
        raise UnsupportedError(
            f"the processes of an engine need a folder to meet in ({error.strerror}): set TMPDIR, "
            "or VLLM_RPC_BASE_PATH for this alone, to a folder that can be written."
        ) from error
