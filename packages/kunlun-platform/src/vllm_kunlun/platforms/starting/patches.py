# SPDX-License-Identifier: Apache-2.0
"""The ledger entries for the start of an engine's processes."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.entries import Entry, Patch
from vllm_kunlun.platforms.version import EVERY, UNTIL_0_16, V0_33

__all__ = ["patches"]


def patches() -> Sequence[Entry]:
    """Provider of the entry-point group ``vllm_kunlun.patches``."""
    return (
        Patch(
            name="engine-start",
            target="vllm.v1.engine.utils:launch_core_engines",
            replacement="vllm_kunlun.platforms.starting.engines:launch_core_engines",
            why="where a process of the engine cannot start, the error that the user sees last "
            "names no cause: that is in another process's log, hundreds of lines above",
            upstream="https://github.com/vllm-project/vllm/blob/v0.15.1/vllm/v1/engine/utils.py",
            vllm_range=EVERY,
            sha256={
                UNTIL_0_16: "a21e8d5e698f32a9c19cd0f3006c91768fd9bf49e0973eaa66b947242b761e13",
                V0_33: "9b93c66344762537bec962f885ef6b6a1594ba5b3a6a1e4f736f5f75e7184a7f",
            },
            remove_when="the error of a failed start holds the exception of the process",
        ),
        Patch(
            name="sockets-that-go",
            target="vllm.utils.network_utils:get_open_zmq_ipc_path",
            replacement="vllm_kunlun.platforms.starting.sockets:get_open_zmq_ipc_path",
            why="each start of an engine leaves its sockets in the temporary folder, three "
            "and more with several ranks",
            upstream="https://github.com/vllm-project/vllm/blob/v0.15.1/vllm/utils/"
            "network_utils.py",
            vllm_range=EVERY,
            sha256="1d9aeb608d4c5dbc1ab36bc61709621c099703c3f99aae960be0a623d2099128",
            remove_when="the paths of an engine's sockets are removed at its end",
        ),
    )
