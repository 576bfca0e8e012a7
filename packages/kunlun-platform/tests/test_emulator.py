# SPDX-License-Identifier: Apache-2.0
"""The emulator is found by entry point, and its absence is one error that names its wheel."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from vllm_kunlun.platforms import emulator, plugin, wheels
from vllm_kunlun.platforms.checks import refusal
from vllm_kunlun.platforms.device import Device
from vllm_kunlun.platforms.errors import MissingWheelError


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch):
    """Let these be the parts that installed wheels name."""

    def provide(*values: str) -> None:
        entries = [EntryPoint("worker", value, emulator.GROUP) for value in values]
        monkeypatch.setattr(wheels, "entry_points", lambda **_: entries)

    return provide


def test_a_part_by_its_dotted_name(provide) -> None:
    provide("some.wheel:Worker")
    assert emulator.is_installed()
    assert emulator.name_of("worker") == "some.wheel.Worker"


def test_without_the_wheel_the_error_names_it(provide) -> None:
    provide()
    assert not emulator.is_installed()
    with pytest.raises(MissingWheelError, match="pip install kunlun-emulator"):
        emulator.name_of("worker")


def test_two_wheels_are_one_too_many(provide) -> None:
    provide("some.wheel:Worker", "other.wheel:Worker")
    with pytest.raises(MissingWheelError, match=r"2 wheels.*some.wheel:Worker, other.wheel:Worker"):
        emulator.name_of("worker")


def test_without_card_and_wheel_vllm_is_told_at_once(
    provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide()
    monkeypatch.setattr(plugin.device, "detect", lambda: Device("emulated", "no card"))
    assert plugin.register() == "vllm_kunlun.platforms.checks.refusal.RefusedPlatform"
    with pytest.raises(MissingWheelError, match="pip install kunlun-emulator"):
        refusal.RefusedPlatform()
