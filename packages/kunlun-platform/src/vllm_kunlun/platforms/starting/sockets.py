# SPDX-License-Identifier: Apache-2.0
"""Where the processes of an engine meet: sockets in a folder of their own, which goes with them.

vLLM binds each socket at a path in the temporary folder and removes none of them. One process may
be killed before it could; the one that the user started removes the folder of all.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.starting import folders

__all__ = ["get_open_zmq_ipc_path"]

_VARIABLE = "VLLM_KUNLUN_SOCKETS"
_LONGEST = 107
"""``sun_path`` of Linux has 108 bytes, the last of them zero."""


def get_open_zmq_ipc_path() -> str:
    """Stands for vLLM's: ``ipc://`` and a path that nobody else uses, no longer than vLLM's.

    Raises:
        UnsupportedError: there is nowhere to make it, or its path is longer than a socket's may be.
    """
    path = f"{_folder()}/{secrets.token_hex(8)}"
    if len(os.fsencode(path)) > _LONGEST:
        raise UnsupportedError(
            f"{path} is longer than the path of a socket may be ({_LONGEST} bytes): set TMPDIR, or "
            "VLLM_RPC_BASE_PATH for this alone, to a folder with a shorter path."
        )
    return f"ipc://{path}"


def _folder() -> str:
    """The folder of the process that asked first among this one and those that started it."""
    inherited = envs.VLLM_KUNLUN_SOCKETS
    if inherited is not None and os.path.isdir(inherited):  # not so on another of Ray's hosts
        return str(inherited)
    made = folders.make()
    envs.put(_VARIABLE, made)
    atexit.register(_remove, made, os.getpid())
    return made


def _remove(folder: str, owner: int) -> None:
    """At the end of the process, and not of one that was forked from it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
