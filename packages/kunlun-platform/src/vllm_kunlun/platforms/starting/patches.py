# SPDX-License-Identifier: Apache-2.0
"""The ledger entry for engines that do not start."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_kunlun.platforms.ledger.entries import Entry, Patch

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
            vllm_range=">=0.15.1,<0.16",
            sha256="a21e8d5e698f32a9c19cd0f3006c91768fd9bf49e0973eaa66b947242b761e13",
            remove_when="the error of a failed start holds the exception of the process",
        ),
    )
