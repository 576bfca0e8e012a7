# SPDX-License-Identifier: Apache-2.0
"""A release tries the very files that it made: ``pytest tests/wheels --built FOLDER``."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--built", type=Path, help="a folder with each wheel of the workspace, not to be built"
    )
