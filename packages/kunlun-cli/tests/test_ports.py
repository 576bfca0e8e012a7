# SPDX-License-Identifier: Apache-2.0
"""A port that somebody listens at is passed by."""

from __future__ import annotations

import random
import socket

from vllm_kunlun.cli import ports


def test_a_port_that_is_taken_is_not_given(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.free_port()))
        other = ports.free_port()
        wanted = [taken.getsockname()[1], other]
        monkeypatch.setattr(random.SystemRandom, "randint", lambda *_: wanted.pop(0))
        assert ports.free_port() == other
    assert wanted == []


def test_it_is_none_that_the_system_hands_out():
    assert all(10_000 <= ports.free_port() <= 30_000 for _ in range(20))
