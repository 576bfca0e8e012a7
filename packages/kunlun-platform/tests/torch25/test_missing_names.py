# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from types import ModuleType

from vllm_kunlun.platforms.torch25 import missing_names


def test_functorch_option_is_off() -> None:
    assert missing_names.bundled_autograd_cache({}) == {"bundled_autograd_cache": False}


def test_wrap_triton_is_what_2_5_called_capture_triton(monkeypatch) -> None:
    old = ModuleType("torch._library.triton")
    old.capture_triton = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch._library.triton", old)
    assert missing_names.wrap_triton({}) == {"wrap_triton": old.capture_triton}
