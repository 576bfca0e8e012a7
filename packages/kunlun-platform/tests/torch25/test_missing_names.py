# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from types import ModuleType

import pytest

from vllm_kunlun.platforms import torch25
from vllm_kunlun.platforms.torch25 import missing_names


def test_functorch_options_are_off() -> None:
    names = ("autograd_cache_normalize_inputs", "bundled_autograd_cache")
    assert missing_names.functorch_options({}) == dict.fromkeys(names, False)


def test_wrap_triton_is_what_2_5_called_capture_triton(monkeypatch) -> None:
    old = ModuleType("torch._library.triton")
    old.capture_triton = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch._library.triton", old)
    assert missing_names.wrap_triton({}) == {"wrap_triton": old.capture_triton}


def test_a_module_with_the_base_of_passes() -> None:
    (module,) = missing_names.custom_graph_pass(sys.modules).values()
    assert module.__name__ == "torch._inductor.custom_graph_pass"
    assert module.CustomGraphPass is missing_names.CustomGraphPass


@pytest.mark.skipif(torch25.is_installed(), reason="torch has no such class before 2.6")
def test_a_pass_has_the_methods_of_torchs() -> None:
    from torch._inductor.custom_graph_pass import CustomGraphPass

    ours = missing_names.CustomGraphPass.__abstractmethods__
    assert ours == CustomGraphPass.__abstractmethods__
