# SPDX-License-Identifier: Apache-2.0
"""Which device this process serves: a Kunlun card, its emulation, or neither."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.errors import DeviceUnavailableError, UnsupportedError

__all__ = ["VENDOR_MODULES", "Device", "detect", "vendor_wheels_answer"]

VENDOR_MODULES = ("kunlun_ops", "xspeedgate_ops")
"""The vendor's libraries without which a card cannot be used."""

_CARD_NODES = "xpu[0-9]*"

_OTHER_ACCELERATORS = {
    "nvidia[0-9]*": "an NVIDIA GPU",
    "kfd": "an AMD GPU",
    "davinci[0-9]*": "an Ascend NPU",
    "accel/accel[0-9]*": "an accelerator of the Linux accel class",
    "neuron[0-9]*": "an AWS Neuron device",
    "cambricon_dev[0-9]*": "a Cambricon MLU",
}
"""Device nodes of others. A DRM render node is not among them: every laptop has one."""


@dataclass(frozen=True)
class Device:
    """The device of this process, and why it is this one.

    ``kind`` is ``xpu`` (a card), ``emulated`` (host memory, torch device cpu) or ``none`` (the
    plugin stands aside and vLLM picks another platform).
    """

    kind: Literal["xpu", "rehearsal", "emulated", "none"]
    reason: str

    @property
    def is_card(self) -> bool:
        """Whether vLLM is told of a card: it is there, or its own path is rehearsed."""
        return self.kind in ("xpu", "rehearsal")


def detect(requested: str | None = None, dev_root: Path = Path("/dev")) -> Device:
    """Decide which device to serve. Imports no vendor library.

    Args:
        requested: ``auto``, ``xpu`` or ``emulated``; by default ``VLLM_KUNLUN_DEVICE``.
        dev_root: the folder of device nodes.

    Raises:
        DeviceUnavailableError: ``xpu`` was asked for, and the card or its libraries are missing.
        UnsupportedError: ``requested`` is none of the three.
    """
    choice = envs.VLLM_KUNLUN_DEVICE if requested is None else requested
    if choice == "emulated":
        return Device("emulated", "VLLM_KUNLUN_DEVICE=emulated asks for the emulator.")
    if choice == "rehearsal":
        return Device("rehearsal", "VLLM_KUNLUN_DEVICE=rehearsal asks for the card's own path.")
    cards = sorted(node.name for node in dev_root.glob(_CARD_NODES))
    missing = [name for name in VENDOR_MODULES if not _importable(name)]
    if choice == "xpu":
        return _explicit_card(cards, missing, dev_root)
    if choice != "auto":
        raise UnsupportedError(
            f"VLLM_KUNLUN_DEVICE={choice!r}: the device is one of auto, xpu or emulated."
        )
    if cards and not missing:
        return Device("xpu", f"{_count(cards)} and the vendor's libraries are present.")
    if cards:
        return Device(
            "none",
            f"{_count(cards)} but no Python module {' or '.join(missing)}: install the vendor's "
            "wheels to use the card, or set VLLM_KUNLUN_DEVICE=emulated to run on the host.",
        )
    for pattern, description in _OTHER_ACCELERATORS.items():
        if any(dev_root.glob(pattern)):
            return Device(
                "none",
                f"{description} is present ({dev_root / pattern}) and no Kunlun card: "
                "set VLLM_KUNLUN_DEVICE=emulated to run on the host all the same.",
            )
    return Device("emulated", f"no accelerator under {dev_root}: the emulator stands in.")


def vendor_wheels_answer() -> bool:
    """Whether calls of the vendor's functions go to its wheels; else they go to the emulator.

    Raises:
        DeviceUnavailableError: as :func:`detect`.
        UnsupportedError: as :func:`detect`; ``VLLM_KUNLUN_VENDOR`` has a value that it cannot have.
    """
    return envs.VLLM_KUNLUN_VENDOR == "wheels" or detect().kind == "xpu"


def _explicit_card(cards: list[str], missing: list[str], dev_root: Path) -> Device:
    if cards and not missing:
        return Device("xpu", f"VLLM_KUNLUN_DEVICE=xpu, and {_count(cards)} present.")
    lacks = [] if cards else [f"a card (no device node {dev_root / _CARD_NODES})"]
    lacks += [f"the vendor's Python module {name}" for name in missing]
    raise DeviceUnavailableError(
        f"VLLM_KUNLUN_DEVICE=xpu asks for a Kunlun card, but this machine lacks "
        f"{'; '.join(lacks)}. Install the vendor's driver and wheels, or set "
        "VLLM_KUNLUN_DEVICE=emulated to run without a card."
    )


def _importable(name: str) -> bool:
    return name in sys.modules or find_spec(name) is not None


def _count(cards: list[str]) -> str:
    return f"Kunlun card{'s' if len(cards) > 1 else ''} {', '.join(cards)}"
