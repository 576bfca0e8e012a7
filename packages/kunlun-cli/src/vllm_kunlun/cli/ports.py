# SPDX-License-Identifier: Apache-2.0
"""A port for a server that is told its port before it starts."""

from __future__ import annotations

import contextlib
import random
import socket

__all__ = ["free_port"]

_FIRST, _LAST = 10_000, 30_000
"""Below those that Linux gives to whoever asks for any (32768 to 60999): between our look and the
server's, an outgoing connection or another engine's own channels cannot take one of these."""


def free_port() -> int:
    """One that nobody listens at; another process that looks, too, finds it one time in 20,000."""
    while True:
        port = random.SystemRandom().randint(_FIRST, _LAST)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
