# SPDX-License-Identifier: Apache-2.0
"""Options of compilation that torch 2.5 lacks, refused by name; on a later torch vLLM's matter."""

from __future__ import annotations

import pytest
from vllm.config import CompilationConfig, CompilationMode

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.torch25 import refusals

OPTIONS = {
    "backed_size_oblivious": {"dynamic_shapes_config": {"type": "backed_size_oblivious"}},
    "unbacked": {"dynamic_shapes_config": {"type": "unbacked"}},
    "evaluate_guards": {"dynamic_shapes_config": {"evaluate_guards": True}},
}
SWITCHES = {"VLLM_USE_BYTECODE_HOOK": "0", "VLLM_USE_AOT_COMPILE": "1"}


@pytest.fixture(autouse=True)
def old_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_torch", lambda: "2.5.1")
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    # 0.33 has it on by default where the torch that is really installed can do it.
    monkeypatch.setenv("VLLM_USE_AOT_COMPILE", "0")


def config(**options: object) -> CompilationConfig:
    return CompilationConfig(**{"mode": CompilationMode.VLLM_COMPILE, **options})


def test_the_defaults_are_taken() -> None:
    refusals.check(config())


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_an_option(monkeypatch, name: str, options: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError, match=rf"{name}.*torch 2\.5\.1 is installed.*enforce-eag"):
        refusals.check(config(**options))
    refusals.check(config(**{**options, "mode": CompilationMode.NONE}))
    monkeypatch.setattr(version, "installed_torch", lambda: "2.9.1")
    refusals.check(config(**options))


@pytest.mark.parametrize(("name", "value"), SWITCHES.items())
def test_a_switch_of_vllm(monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UnsupportedError, match=rf"{name}={value}.*Unset it"):
        refusals.check(config())
    refusals.check(config(mode=CompilationMode.NONE))
    monkeypatch.setattr(version, "installed_torch", lambda: "2.9.1")
    refusals.check(config())
