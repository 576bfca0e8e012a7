# SPDX-License-Identifier: Apache-2.0
"""A machine without a card that lacks ``kunlun-emulator``: each command names that wheel."""

from __future__ import annotations

from importlib import metadata

import pytest

from vllm_kunlun.cli import checks
from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import MissingWheelError


@pytest.fixture
def no_emulator(monkeypatch):
    """The only check of ``doctor`` is for the emulator's wheel, which is not installed."""
    real = metadata.version

    def version_of(name):
        if name == "kunlun-emulator":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version_of)
    monkeypatch.setattr(checks, "CHECKS", {"emulator": checks.CHECKS["emulator"]})


def test_doctor_names_it(run_json, no_emulator):
    code, value = run_json("doctor")
    assert code == 1
    [check] = value["checks"]
    assert (check["name"], check["status"]) == ("wheel kunlun-emulator", "fail")
    assert check["fix"] == "pip install kunlun-emulator"


def test_on_a_card_doctor_does_not_ask_for_it(run_json, no_emulator, monkeypatch):
    monkeypatch.setattr(device, "detect", lambda: device.Device("xpu", "planted"))
    code, value = run_json("doctor")
    assert (code, value["checks"]) == (0, [])


@pytest.mark.parametrize("command", ["list", "check", "bench"])
def test_ops_name_it(run, monkeypatch, command):
    def missing(part):
        raise MissingWheelError(f"{part}: pip install kunlun-emulator")

    monkeypatch.setattr("vllm_kunlun.platforms.emulator.name_of", missing)
    result = run("ops", command)
    assert result.exit_code == 2
    assert result.stderr.count("pip install kunlun-emulator") == 1
