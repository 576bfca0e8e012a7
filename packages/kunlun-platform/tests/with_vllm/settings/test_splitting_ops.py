# SPDX-License-Identifier: Apache-2.0
"""Where graphs are cut: the manual's names, vLLM's, and what is required whatever was asked."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode

from vllm_kunlun.platforms import wheels
from vllm_kunlun.platforms.settings import splitting_ops

INDEXER_OP = "vllm::sparse_attn_indexer_vllm_kunlun"
OUTPUT_OP = "vllm::unified_attention_with_output"
[DELTA_OP] = {"vllm::gdn_attention_core", "vllm::qwen_gdn_attention_core"} & {
    *CompilationConfig._attention_ops
}
RETURNING = "vllm::unified_attention" in CompilationConfig._attention_ops
"""Whether vLLM has the ops that return what they compute, as well: until 0.16."""
MANUAL = [
    "vllm.unified_attention",
    "vllm.unified_attention_with_output",
    "vllm.unified_attention_with_output_kunlun",
    "vllm.sparse_attn_indexer_vllm_kunlun",
]


def updated(asked: list[str] | None, *, on_card: bool, **fields: Any) -> list[str] | None:
    config = CompilationConfig()
    config.splitting_ops = asked
    config.cudagraph_mode = CUDAGraphMode.PIECEWISE if on_card else CUDAGraphMode.NONE
    for name, value in fields.items():
        setattr(config, name, value)
    splitting_ops.update(config, on_card=on_card)
    result: list[str] | None = config.splitting_ops
    return result


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """The lines that were said."""
    caplog.set_level(logging.INFO, logger="vllm.kunlun.configuration")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("vllm.unified_attention", "vllm::unified_attention"),
        ("vllm::unified_attention", "vllm::unified_attention"),
        ("vllm.unified_attention_with_output_kunlun", OUTPUT_OP),
        ("vllm::unified_attention_with_output_kunlun", OUTPUT_OP),
        ("vllm.unified_mla_attention_kunlun", "vllm::unified_mla_attention" if RETURNING else None),
        ("vllm.sparse_attn_indexer_vllm_kunlun", INDEXER_OP),
        ("vllm.gdn_attention", DELTA_OP),
        ("vllm.unknown_kunlun", None),
        ("vllm.of_my_model", "vllm::of_my_model"),
        ("mine.op.default", "mine::op.default"),
        ("mine::op.default", "mine::op.default"),
        ("mine.op_kunlun", "mine::op_kunlun"),
    ],
)
def test_what_a_name_means(name: str, op: str | None) -> None:
    assert splitting_ops.translate(name) == op


def test_without_the_wheel_of_the_indexer_its_name_is_vllms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheels, "names", lambda group: [])
    assert splitting_ops.translate(INDEXER_OP) == "vllm::sparse_attn_indexer"


def test_what_is_required_is_vllms_list_the_cache_and_what_wheels_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheels, "names", lambda group: ["one"] * (group == splitting_ops.GROUP))
    assert splitting_ops.required() == [
        *CompilationConfig._attention_ops,
        "vllm::unified_kv_cache_update",
        "vllm::one",
    ]


def test_a_card_is_cut_at_attention_and_the_indexer_and_nothing_is_said(said: Any) -> None:
    pieces = updated(None, on_card=True)
    assert pieces is not None
    assert {*CompilationConfig._attention_ops, INDEXER_OP} <= set(pieces)
    assert pieces is not CompilationConfig._attention_ops
    assert said() == []


def test_the_emulated_devices_graph_stays_whole() -> None:
    assert updated(None, on_card=False) == []
    assert updated([], on_card=False) == []


@pytest.mark.parametrize("on_card", [True, False])
def test_the_manuals_list_is_translated_and_completed_in_one_line(said: Any, on_card: bool) -> None:
    pieces = updated(MANUAL, on_card=on_card)
    assert pieces is not None
    assert pieces[:3] == ["vllm::unified_attention", OUTPUT_OP, INDEXER_OP]
    kept = [] if RETURNING else ["vllm::unified_attention"]  # it could be the user's own
    assert sorted(pieces) == sorted([*splitting_ops.required(), *kept])
    [line] = said()
    assert f"vllm.unified_attention_with_output_kunlun is {OUTPUT_OP} here" in line
    assert "vllm.unified_attention is" not in line
    assert "added" in line and DELTA_OP in line.partition("added")[2]
    assert f"{OUTPUT_OP}," not in line.partition("added")[2]


def test_an_op_of_the_users_own_is_kept_and_one_of_an_older_plugin_left_out(said: Any) -> None:
    pieces = updated([*splitting_ops.required(), "vllm.unknown_kunlun", "mine::op"], on_card=True)
    assert pieces == [*splitting_ops.required(), "mine::op"]
    [line] = said()
    assert "vllm.unknown_kunlun is left out" in line and "added" not in line


def test_a_complete_list_is_kept_and_nothing_is_said(said: Any) -> None:
    assert updated(splitting_ops.required(), on_card=True) == splitting_ops.required()
    assert said() == []


def test_an_empty_list_is_completed_where_pieces_are_captured() -> None:
    assert updated([], on_card=True) == splitting_ops.required()
    assert updated([], on_card=True, cudagraph_mode=CUDAGraphMode.NONE) == []


@pytest.mark.parametrize("asked", [None, MANUAL])
def test_only_vllms_own_compilation_is_cut(asked: list[str] | None, said: Any) -> None:
    mode = CompilationMode.DYNAMO_TRACE_ONCE
    assert updated(asked, on_card=True, mode=mode) == asked
    assert said() == []
