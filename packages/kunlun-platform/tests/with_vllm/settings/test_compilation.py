# SPDX-License-Identifier: Apache-2.0
"""How graphs are traced and compiled."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode

from vllm_kunlun.platforms import envs
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.settings import compilation


def test_eager_is_honoured(build: Any) -> None:
    assert build(enforce_eager=True).compilation_config.mode == CompilationMode.NONE


@pytest.mark.parametrize("asked", ["none", "all", "+rms_norm"])
def test_our_layers_are_on_whatever_was_asked(build: Any, asked: str) -> None:
    names = build(compilation_config={"custom_ops": [asked]}).compilation_config.custom_ops
    assert names.count("all") == 1 and "none" not in names
    assert ("+rms_norm" in names) == (asked == "+rms_norm")


def test_compilation_that_was_asked_for_is_kept_and_uses_no_code_generator(build: Any) -> None:
    config = build(compilation_config={"mode": 3, "backend": "inductor"})
    assert config.compilation_config.mode == CompilationMode.VLLM_COMPILE
    assert config.compilation_config.backend == compilation.COMPILER


def test_a_graph_of_torch_alone_has_a_backend_of_torch(build: Any) -> None:
    config = build(compilation_config={"mode": 2})
    assert config.compilation_config.mode == CompilationMode.DYNAMO_TRACE_ONCE
    assert config.compilation_config.backend == "eager"


def test_no_pass_fuses_what_our_layers_compute() -> None:
    config = CompilationConfig()
    passes = [
        field.name
        for field in fields(config.pass_config)
        if field.name.startswith(("fuse_", "enable_"))
    ]
    assert {"fuse_norm_quant", "fuse_attn_quant", "enable_qk_norm_rope_fusion"} <= set(passes)
    for name in passes:
        setattr(config.pass_config, name, True)
    compilation.update(config, on_card=True)
    assert not any(getattr(config.pass_config, name) for name in passes)


@pytest.mark.parametrize(("before", "after"), [(None, False), ("1", True)])
def test_no_graph_is_stored_unless_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: bool
) -> None:
    monkeypatch.delenv("VLLM_USE_AOT_COMPILE", raising=False)
    if before is not None:
        monkeypatch.setenv("VLLM_USE_AOT_COMPILE", before)
    compilation.update(CompilationConfig(), on_card=False)
    assert envs.VLLM_USE_AOT_COMPILE is after


@pytest.mark.parametrize("on_card", [True, False])
def test_compilation_is_off_where_an_entry_for_it_is_left_out(monkeypatch, on_card):
    monkeypatch.setattr(patch_ledger, "left_out", lambda: {"one": "changed", "two": "changed"})
    config = CompilationConfig(
        mode=CompilationMode.VLLM_COMPILE, cudagraph_mode=CUDAGraphMode.PIECEWISE
    )
    compilation.turn_off_what_does_not_fit(config)
    compilation.update(config, on_card=on_card)
    assert config.mode == CompilationMode.NONE
    assert config.cudagraph_mode == CUDAGraphMode.NONE
    assert config.cudagraph_capture_sizes == []
