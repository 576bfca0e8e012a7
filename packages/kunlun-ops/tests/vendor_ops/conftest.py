# SPDX-License-Identifier: Apache-2.0
"""The vendor libraries, recorded."""

from __future__ import annotations

from typing import Any

import pytest
from support.recorder import Recorder

from vllm_kunlun.ops.vendor_ops import library


@pytest.fixture
def recorders() -> Any:
    recorders = {name: Recorder() for name in library.Libraries._fields}
    with library.use_libraries(**recorders):
        yield recorders
