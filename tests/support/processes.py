# SPDX-License-Identifier: Apache-2.0
"""What the processes of a server hold."""

from __future__ import annotations

import dataclasses

import psutil
from support.server import Server

__all__ = ["Held", "named"]


def named(running: Server) -> dict[int, str]:
    """Process id -> its command line, or the name that vLLM gave it, of each of the server's."""
    found = {}
    for pid in running.descendants():
        try:
            found[pid] = " ".join(psutil.Process(pid).cmdline())
        except psutil.NoSuchProcess:
            continue
    return found


@dataclasses.dataclass(frozen=True)
class Held:
    """Resident memory in MiB and open descriptors: of the server, and of its engine's process."""

    server_mib: float
    server_descriptors: int
    engine_mib: float
    engine_descriptors: int

    @classmethod
    def by(cls, running: Server) -> Held:
        (engine,) = (pid for pid, name in named(running).items() if "EngineCore" in name)
        processes = [psutil.Process(running.process.pid), psutil.Process(engine)]
        values = [(each.memory_info().rss / 2**20, each.num_fds()) for each in processes]
        return cls(*values[0], *values[1])
