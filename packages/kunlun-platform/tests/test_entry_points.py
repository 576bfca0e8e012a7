# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest

from vllm_kunlun.platforms import entry_points
from vllm_kunlun.platforms.errors import KunlunError


@pytest.fixture(autouse=True)
def nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_points, "_reported", set())


def test_one_failure_neither_hides_nor_stops_the_rest(
    ground, caplog: pytest.LogCaptureFixture
) -> None:
    ground.module("good", "def provide(): return 7")
    ground.module("bad", "raise OSError('disc on fire')")
    ground.module("raising", "def provide(): raise LookupError('no card 9')")
    ground.module("constant", "provide = 3")
    ground.distribution("wheel-a", families={"good": "good:provide", "bad": "bad:provide"})
    ground.distribution(
        "wheel-b",
        families={
            "absent": "no_such_module:x",
            "raising": "raising:provide",
            "constant": "constant:provide",
            "attribute": "good:missing",
        },
    )
    with caplog.at_level(logging.ERROR, logger="vllm.kunlun"):
        first = entry_points.call_providers(ground.families)
        logged = len(caplog.records)
        second = entry_points.call_providers(ground.families)
    assert first.loaded == second.loaded == {"good": 7}
    assert {name: type(error) for name, error in first.failures.items()} == {
        "bad": OSError,
        "absent": ModuleNotFoundError,
        "raising": LookupError,
        "constant": KunlunError,
        "attribute": AttributeError,
    }
    assert first.failures.keys() == second.failures.keys()
    assert logged == len(caplog.records) == 5, "each failure is logged once per process"
    assert "disc on fire" in caplog.text


def test_two_distributions_with_one_name_are_an_error(ground) -> None:
    ground.module("one", "def provide(): return 1")
    ground.distribution("wheel-a", families={"same": "one:provide"})
    ground.distribution("wheel-b", families={"same": "one:provide"})
    found = entry_points.load_group(ground.families)
    assert found.loaded == {}
    assert "wheel-a" in str(found.failures["same"])
    assert "wheel-b" in str(found.failures["same"])


def test_an_empty_group() -> None:
    assert entry_points.load_group("planted.nobody") == ({}, {})
