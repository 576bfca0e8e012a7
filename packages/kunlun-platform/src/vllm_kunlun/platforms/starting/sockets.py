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
import tempfile

from vllm_kunlun.platforms import envs

__all__ = ["get_open_zmq_ipc_path"]

_VARIABLE = "VLLM_KUNLUN_SOCKETS"


def get_open_zmq_ipc_path() -> str:
    """Stands for vLLM's: ``ipc://`` and a path that nobody else uses, no longer than vLLM's."""
    return f"ipc://{_folder()}/{secrets.token_hex(8)}"


def _folder() -> str:
    """The folder of the process that asked first among this one and those that started it."""
    inherited = envs.VLLM_KUNLUN_SOCKETS
    if inherited is not None and os.path.isdir(inherited):  # not so on another of Ray's hosts
        return str(inherited)
    made = tempfile.mkdtemp(prefix="vllm-kunlun-", dir=envs.VLLM_RPC_BASE_PATH)
    envs.put(_VARIABLE, made)
    atexit.register(_remove, made, os.getpid())
    return made


def _remove(folder: str, owner: int) -> None:
    """At the end of the process, and not of one that was forked from it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
