# SPDX-License-Identifier: Apache-2.0
"""Both forms of a source, and files of which nothing is read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.model_executor.model_loader import weight_utils

from vllm_kunlun.platforms.vllm_compat.weight_files import files_of


class Loader:
    def __init__(self, *more: str) -> None:
        self.more = more

    def _prepare_weights(self, *asked: Any) -> tuple[Any, ...]:
        self.asked = asked
        return ("folder", ["a.safetensors", "b.safetensors"], True, *self.more)


def source(**more: Any) -> Any:
    return SimpleNamespace(
        model_or_path="m", revision="r", fall_back_to_pt=True, allow_patterns_overrides=None, **more
    )


def test_a_whole_repository() -> None:
    loader = Loader()
    assert files_of(loader, source()) == ("folder", ["a.safetensors", "b.safetensors"])
    assert loader.asked == ("m", "r", True, None)


def test_a_part_of_a_repository() -> None:
    loader = Loader("index")
    assert files_of(loader, source(subfolder="part"))[0] == "folder"
    assert loader.asked == ("m", "part", "r", True, None)


def test_files_of_which_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        weight_utils,
        "filter_safetensors_files_by_weight_name",
        lambda files, unread: [file for file in files if not unread(file)],
        raising=False,
    )
    asked = source(subfolder=None, is_unused_weight=lambda name: name.startswith("a"))
    assert files_of(Loader("index"), asked)[1] == ["b.safetensors"]
