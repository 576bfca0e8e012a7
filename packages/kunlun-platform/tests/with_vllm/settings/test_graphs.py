# SPDX-License-Identifier: Apache-2.0
"""Which graphs are captured: pieces on a card, none elsewhere, and what is said of the rest."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode

from vllm_kunlun.platforms.settings import graphs

SIZES = [1, 2, 4]


def updated(asked: Any, *, on_card: bool = True, **fields: Any) -> Any:
    config = CompilationConfig(mode=CompilationMode.VLLM_COMPILE)
    config.cudagraph_mode = asked
    config.cudagraph_capture_sizes = list(SIZES)
    config.max_cudagraph_capture_size = SIZES[-1]
    for name, value in fields.items():
        setattr(config, name, value)
    graphs.update(config, on_card=on_card)
    return config


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """Level and text of what was said."""
    caplog.set_level(logging.INFO, logger="vllm.kunlun.configuration")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize(
    ("asked", "given", "level"),
    [
        (CUDAGraphMode.FULL, CUDAGraphMode.PIECEWISE, "WARNING"),
        (CUDAGraphMode.FULL_DECODE_ONLY, CUDAGraphMode.PIECEWISE, "WARNING"),
        (CUDAGraphMode.FULL_AND_PIECEWISE, CUDAGraphMode.PIECEWISE, "INFO"),
        (CUDAGraphMode.PIECEWISE, CUDAGraphMode.PIECEWISE, None),
        (CUDAGraphMode.NONE, CUDAGraphMode.NONE, None),
        (None, CUDAGraphMode.NONE, None),
    ],
    ids=str,
)
def test_graphs_on_a_card_never_hold_attention(
    asked: Any, given: Any, level: str | None, said: Any
) -> None:
    config = updated(asked)
    assert config.cudagraph_mode == given
    assert config.cudagraph_capture_sizes == (SIZES if given == CUDAGraphMode.PIECEWISE else [])
    assert [each for each, _ in said()] == ([level] if level else [])
    assert all(f"cudagraph_mode {asked} is run as PIECEWISE" in text for _, text in said())


@pytest.mark.parametrize("mode", [CompilationMode.NONE, CompilationMode.DYNAMO_TRACE_ONCE])
@pytest.mark.parametrize(
    ("asked", "warned"),
    [(CUDAGraphMode.FULL, True), (CUDAGraphMode.FULL_AND_PIECEWISE, False)],
    ids=str,
)
def test_without_pieces_nothing_is_captured(
    mode: CompilationMode, asked: CUDAGraphMode, warned: bool, said: Any
) -> None:
    config = updated(asked, mode=mode)
    assert config.cudagraph_mode == CUDAGraphMode.NONE
    assert config.cudagraph_capture_sizes == [] and config.max_cudagraph_capture_size == 0
    assert [level for level, _ in said()] == ["WARNING"] * warned
    assert all(f"compilation mode {mode.name} makes none" in text for _, text in said())


def test_the_emulated_device_captures_nothing(said: Any) -> None:
    config = updated(CUDAGraphMode.PIECEWISE, on_card=False, compile_sizes=None)
    assert config.cudagraph_mode == CUDAGraphMode.NONE
    assert config.cudagraph_capture_sizes == [] and config.max_cudagraph_capture_size == 0
    assert config.compile_sizes == []
    assert said() == []
    assert updated(CUDAGraphMode.NONE, on_card=False, compile_sizes=[8]).compile_sizes == [8]


@pytest.mark.parametrize("asked", [True, False, None])
def test_no_code_generator_cuts_graphs(asked: bool | None, said: Any) -> None:
    config = updated(CUDAGraphMode.PIECEWISE, use_inductor_graph_partition=asked)
    assert config.use_inductor_graph_partition is False
    assert [level for level, _ in said()] == ["WARNING"] * bool(asked)
