# SPDX-License-Identifier: Apache-2.0
"""What a check of ``doctor`` answers."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Check", "Status"]

Status = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One result: what was looked at, its status, what was seen, what to do."""

    name: str
    status: Status
    detail: str
    fix: str = ""
