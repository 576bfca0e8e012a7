# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vllm_kunlun.platforms import torch25, version


@pytest.mark.parametrize(
    ("installed", "old"),
    [("2.5.1", True), ("2.5.1+vendor", True), ("2.6.0", False), ("2.9.1", False), (None, False)],
)
def test_the_range_of_torch(
    installed: str | None, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "installed_torch", lambda: installed)
    assert torch25.is_installed() is old
