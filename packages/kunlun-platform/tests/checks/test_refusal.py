# SPDX-License-Identifier: Apache-2.0
"""A refusal has to survive vLLM's plugin loader, which swallows what a plugin raises."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vllm_kunlun.platforms.checks import refusal
from vllm_kunlun.platforms.errors import (
    DeviceUnavailableError,
    IncompatibleVllmError,
    KunlunError,
)


def meet(path: str) -> None:
    """Do what vLLM does with a platform's class path."""
    from vllm.utils.import_utils import resolve_obj_by_qualname

    resolve_obj_by_qualname(path)()


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal, "_reason", None)


def test_the_reason_comes_out_where_the_platform_is_made() -> None:
    reason = IncompatibleVllmError("vLLM 9.9 is installed; install 0.15.1.")
    path = refusal.refuse(reason)
    with pytest.raises(IncompatibleVllmError) as caught:
        meet(path)
    assert caught.value is reason


def test_the_last_reason_counts() -> None:
    refusal.refuse(KunlunError("the first"))
    path = refusal.refuse(DeviceUnavailableError("the second"))
    with pytest.raises(DeviceUnavailableError, match="the second"):
        meet(path)


def test_without_a_reason_it_still_refuses() -> None:
    with pytest.raises(KunlunError, match="gave no reason"):
        refusal.RefusedPlatform()


@pytest.mark.skipif(os.path.exists("/dev/xpu0"), reason="a card is there")
def test_a_user_of_vllm_sees_why() -> None:
    """``VLLM_KUNLUN_DEVICE=xpu`` without a card, through vLLM's own platform resolution."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from vllm.platforms import current_platform; current_platform.name",
        ],
        env={**os.environ, "VLLM_KUNLUN_DEVICE": "xpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "DeviceUnavailableError" in last
    assert "VLLM_KUNLUN_DEVICE=emulated" in done.stderr
