# SPDX-License-Identifier: Apache-2.0
"""Where a measurement was made: the device by its name, the wheels that are there, the date."""

from __future__ import annotations

import platform
from datetime import datetime, timedelta, timezone
from importlib import metadata
from typing import Literal

import pytest
import torch

from vllm_kunlun.ops.conformance.provenance import surroundings, torch_device
from vllm_kunlun.platforms import device

Kind = Literal["xpu", "rehearsal", "emulated"]


def serve(monkeypatch: pytest.MonkeyPatch, kind: Kind, wheels: bool) -> None:
    monkeypatch.setattr(device, "detect", lambda: device.Device(kind, "planted"))
    monkeypatch.setattr(device, "vendor_wheels_answer", lambda: wheels)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"P800 number {index}")


@pytest.mark.parametrize(
    ("kind", "wheels", "name", "torchs"),
    [
        ("xpu", True, "P800 number 0", "cuda:0"),
        ("emulated", True, "the vendor's wheels, on the host", "cpu"),
        ("emulated", False, "the emulator, on the host", "cpu"),
        ("rehearsal", False, "the emulator, on a rehearsed card", "cpu"),
    ],
)
def test_the_device(
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    wheels: bool,
    name: str,
    torchs: str,
) -> None:
    serve(monkeypatch, kind, wheels)
    found = surroundings()
    assert (found.device, found.emulated) == (name, not wheels)
    assert torch_device() == torchs


def test_versions_of_the_wheels_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"kunlun-platform": "0.1", "torch": "2.9", "numpy": "2.2"}

    def version(wheel: str) -> str:
        if wheel not in there:
            raise metadata.PackageNotFoundError(wheel)
        return there[wheel]

    monkeypatch.setattr(metadata, "version", version)
    found = surroundings()
    assert list(found.wheels.items()) == [("torch", "2.9"), ("kunlun-platform", "0.1")]
    assert found.python == platform.python_version()


def test_the_date_is_utc_to_the_second() -> None:
    date = datetime.fromisoformat(surroundings().date)
    assert date.utcoffset() == timedelta(0)
    assert date.microsecond == 0
    assert abs(datetime.now(timezone.utc) - date) < timedelta(minutes=10)
