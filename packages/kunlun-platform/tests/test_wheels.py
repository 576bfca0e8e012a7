# SPDX-License-Identifier: Apache-2.0
"""What the installed wheels provide, and which wheel is named where none provides it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.errors import MissingWheelError

GROUP = "vllm_kunlun.attention_backends"


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let these be the entry points of the installed wheels, each ``(name, value)``."""

    def provide(*pairs: tuple[str, str]) -> None:
        entries = [EntryPoint(name, value, GROUP) for name, value in pairs]

        def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
            return [e for e in entries if e.group == group and name in (None, e.name)]

        monkeypatch.setattr(wheels, "entry_points", entry_points)

    return provide


def test_one_provider_is_found_and_not_loaded(provide) -> None:
    provide(("dense", "no_such_package:A"), ("mla", "no_such_package:B"))
    assert wheels.provider(GROUP, "mla", need="a test").value == "no_such_package:B"
    assert wheels.names(GROUP) == ["dense", "mla"]


def test_a_name_that_two_wheels_have_is_listed_once(provide) -> None:
    provide(("mla", "a:A"), ("dense", "b:B"), ("mla", "c:C"))
    assert wheels.names(GROUP) == ["dense", "mla"]


def test_without_a_provider_its_wheel_is_named(provide) -> None:
    provide(("dense", "a:A"))
    with pytest.raises(MissingWheelError) as caught:
        wheels.provider(GROUP, "mla", need="this test needs it", instead=" (or leave it).")
    assert str(caught.value) == (
        "this test needs it, and no installed wheel provides it. Install it: "
        "pip install kunlun-mla (or leave it)."
    )


def test_two_providers_are_one_too_many(provide) -> None:
    provide(("mla", "a:A"), ("mla", "b:B"))
    with pytest.raises(MissingWheelError, match=r"2 wheels.*a:A, b:B.*all but kunlun-mla"):
        wheels.provider(GROUP, "mla", need="a test")


@pytest.mark.parametrize(
    ("architecture", "wheel"),
    [
        ("Qwen9ForCausalLM", "kunlun-models-qwen"),
        ("GptOssForCausalLM", "kunlun-models-gpt-oss"),
        ("ForCausalLMQwen", None),
        ("LlamaForCausalLM", None),
    ],
)
def test_a_familys_wheel_by_the_beginning_of_the_name(architecture: str, wheel: str | None) -> None:
    assert wheels.for_architecture(architecture) == wheel
