# SPDX-License-Identifier: Apache-2.0
"""Where and when the vendor's functions were checked or timed."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata

from vllm_kunlun.platforms import device

__all__ = ["Surroundings", "surroundings", "torch_device"]

WHEELS = (
    "kunlun_ops", "xspeedgate_ops", "cocopod", "torch", "vllm",
    "kunlun-custom-ops", "kunlun-platform", "kunlun-cli",
)  # fmt: skip
"""Whose versions a reader of a report needs to know: the vendor's first."""


@dataclass(frozen=True)
class Surroundings:
    """Where and when something was measured; versions of wheels that are not there are left out."""

    date: str
    device: str
    emulated: bool
    python: str
    wheels: dict[str, str]


def torch_device() -> str:
    """Torch's name of the device that the functions run on: a card presents itself as cuda."""
    return "cuda:0" if device.detect().kind == "xpu" else "cpu"


def surroundings() -> Surroundings:
    """This machine, now."""
    found = device.detect()
    emulated = not device.vendor_wheels_answer()
    where = "a rehearsed card" if found.kind == "rehearsal" else "the host"
    name = ("the emulator" if emulated else "the vendor's wheels") + f", on {where}"
    if found.kind == "xpu":
        import torch

        name = torch.cuda.get_device_name(0)
    wheels = {wheel: version for wheel in WHEELS if (version := _version(wheel)) is not None}
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Surroundings(date, name, emulated, platform.python_version(), wheels)


def _version(wheel: str) -> str | None:
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return None
