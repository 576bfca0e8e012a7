# SPDX-License-Identifier: Apache-2.0
"""For every test of every wheel: the same random numbers alone, in any order and under xdist."""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Seed what outlives a test by its own name: which test sets it up first changes nothing."""
    if fixturedef.scope != "function":
        seed(f"{fixturedef.argname} {getattr(request, 'param_index', 0)}")
    return (yield)


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Seed each test by its name."""
    seed(request.node.nodeid.rpartition("/")[2])


def seed(name: str) -> None:
    """Seed Python's generator, and those of numpy and torch if they are imported already."""
    number = zlib.crc32(name.encode())
    random.seed(number)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(number)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(number)
