# SPDX-License-Identifier: Apache-2.0
"""The file that ``--report`` names: looked at before minutes are spent on what goes into it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vllm_kunlun.cli.console import as_json
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["check", "write"]


def check(report: Path | None) -> None:
    """Whether ``report`` can be written, without writing it.

    Raises:
        UnsupportedError: it is neither HTML nor JSON by its name, or cannot be written there.
    """
    if report is None:
        return
    if report.suffix not in (".html", ".json"):
        raise UnsupportedError(f"--report {report}: name a file that ends in .html or .json.")
    if not report.absolute().parent.is_dir():
        raise UnsupportedError(
            f"--report {report}: the folder {report.parent} does not exist; create it first."
        )
    if report.is_dir() or not os.access(report if report.exists() else report.absolute().parent,
                                        os.W_OK):  # fmt: skip
        raise UnsupportedError(
            f"--report {report} cannot be written: name a file in a folder of yours."
        )


def write(report: Path, result: Mapping[str, Any], as_html: Callable[[], str]) -> None:
    """Write ``result`` to ``report``, as a page or as JSON, as its name says."""
    text = as_html() if report.suffix == ".html" else as_json(result)
    report.write_text(text, encoding="utf-8")
