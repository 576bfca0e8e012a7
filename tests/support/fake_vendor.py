# SPDX-License-Identifier: Apache-2.0
"""Puts the recording fakes of the vendor's libraries in the place where a card has its wheels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.vendor_calls import FOLDER
from support.vendor_contract import CONTRACT, check

__all__ = ["assert_within_contract", "environment", "import_path"]

_TESTS = Path(__file__).parents[1]


def import_path() -> list[str]:
    """What goes in front of ``sys.path`` or into ``PYTHONPATH``."""
    return [str(_TESTS / "fake_vendor"), str(_TESTS)]


def environment(records: Path) -> dict[str, str]:
    """Variables of a process whose calls of the vendor's functions shall go to ``records``."""
    records.mkdir(exist_ok=True)
    return {
        "VLLM_KUNLUN_DEVICE": "emulated",
        "VLLM_KUNLUN_VENDOR": "wheels",
        FOLDER: str(records),
    }


def assert_within_contract(calls: list[Mapping[str, Any]]) -> None:
    """Fail with every violation, in words and with its count; also if nothing was called."""
    assert calls, "no call was recorded"
    found = check(calls, CONTRACT)
    lines = "\n".join(f"{count} times {violation}" for violation, count in found.items())
    assert not found, f"{len(calls)} calls, of which these break the contract:\n{lines}"
