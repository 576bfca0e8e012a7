# SPDX-License-Identifier: Apache-2.0
"""How graphs are traced, split and captured."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode

from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.settings import compilation

INDEXER_OP = "vllm::sparse_attn_indexer_vllm_kunlun"


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
    for name in compilation._FUSIONS:
        setattr(config.pass_config, name, True)
    compilation.update(config, on_card=True)
    assert not any(getattr(config.pass_config, name) for name in compilation._FUSIONS)


def test_pieces_that_were_asked_for_are_kept(build: Any) -> None:
    pieces = ["vllm::unified_attention_with_output"]
    config = build(compilation_config={"splitting_ops": pieces})
    assert config.compilation_config.splitting_ops == pieces


def test_the_manuals_names_of_pieces_are_read(build: Any) -> None:
    names = ["vllm.unified_attention", "vllm.sparse_attn_indexer_vllm_kunlun"]
    config = build(compilation_config={"splitting_ops": names})
    assert config.compilation_config.splitting_ops == ["vllm::unified_attention", INDEXER_OP]


def test_a_card_splits_its_graphs_at_vllms_attention_and_at_the_indexer() -> None:
    config = CompilationConfig()
    compilation.update(config, on_card=True)
    assert {*CompilationConfig._attention_ops, INDEXER_OP} <= set(config.splitting_ops)


def test_a_card_splits_its_graphs_where_the_installed_wheels_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheels, "names", lambda group: ["one", "two"] if group else [])
    config = CompilationConfig()
    compilation.update(config, on_card=True)
    assert config.splitting_ops[-2:] == ["vllm::one", "vllm::two"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (CUDAGraphMode.FULL, CUDAGraphMode.PIECEWISE),
        (CUDAGraphMode.FULL_AND_PIECEWISE, CUDAGraphMode.PIECEWISE),
        (CUDAGraphMode.FULL_DECODE_ONLY, CUDAGraphMode.PIECEWISE),
        (CUDAGraphMode.PIECEWISE, CUDAGraphMode.PIECEWISE),
        (CUDAGraphMode.NONE, CUDAGraphMode.NONE),
        (None, CUDAGraphMode.NONE),
    ],
    ids=str,
)
def test_graphs_on_a_card_never_hold_attention(build: Any, asked: Any, given: Any) -> None:
    config = build().compilation_config
    config.cudagraph_mode = asked
    config.cudagraph_capture_sizes = [1, 2, 4]
    compilation.update(config, on_card=True)
    assert config.cudagraph_mode == given
    if given == CUDAGraphMode.PIECEWISE:
        assert config.cudagraph_capture_sizes == [1, 2, 4]


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


def test_without_captured_graphs_nothing_is_left_to_capture_or_to_compile_for() -> None:
    config = CompilationConfig(use_inductor_graph_partition=False)
    config.use_inductor_graph_partition = True
    config.max_cudagraph_capture_size = 512
    config.compile_sizes = None
    compilation.update(config, on_card=False)
    assert config.use_inductor_graph_partition is False
    assert config.max_cudagraph_capture_size == 0
    assert config.compile_sizes == []
    config.compile_sizes = [8]
    compilation.update(config, on_card=False)
    assert config.compile_sizes == [8]


@pytest.mark.parametrize(
    ("mode", "split"),
    [(CompilationMode.VLLM_COMPILE, True), (CompilationMode.DYNAMO_TRACE_ONCE, False)],
    ids=["vllm", "torch"],
)
def test_only_vllms_own_compilation_is_split(mode: CompilationMode, split: bool) -> None:
    config = CompilationConfig(mode=mode)
    compilation.update(config, on_card=True)
    assert (config.splitting_ops is not None) == split
