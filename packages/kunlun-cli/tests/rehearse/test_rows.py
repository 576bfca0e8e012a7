# SPDX-License-Identifier: Apache-2.0
"""Rows and figures of ``rehearse``, for the terminal and the page."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.rehearse import rows


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0"), (3.0, "3"), (1.25, "1.25"), (12345.0, "12,345")]
)
def test_a_count_is_whole_where_it_is(value, text):
    assert rows.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 bytes"), (1536.0, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 30, "5.0 GiB")],
)
def test_bytes_are_for_people(value, text):
    assert rows.memory(value) == text


def test_a_row_has_step_and_layer_of_each_run_with_what_is_in_graphs(result):
    found = {row.name: row.cells for row in rows.rows(result, "decode")}
    assert found["vendor calls"] == ("3", "2", "3", "2", "1", "0", "1", "0")
    assert found["launches of torch"] == ("6", "5", "4", "4", "10", "9", "8", "8")
    assert found["copies to the device"][:2] == ("1.25", "0")
    assert list(found) == list(rows.KINDS.values())


def test_what_was_not_measured_is_a_dash(result):
    for run in result["runs"].values():
        for total in run["phases"]["decode"]["totals"].values():
            total["in_graph"]["per_layer"] = total["outside"]["per_layer"] = None
        for asked in run["phases"]["decode"]["asked"]:
            asked["per_layer"] = None
    assert rows.rows(result, "decode")[0].cells[2:4] == ("–", "–")
    assert rows.bars(result, "decode")[0].per_step == (2.0, 0.0)


def test_a_bar_adds_up_one_name_and_the_longest_of_a_kind_comes_first(result):
    found = rows.bars(result, "decode")
    assert [bar.name for bar in found[:3]] == ["rmsnorm", "attention", "aten::mm"]
    assert (found[2].per_step, found[2].in_graph) == ((6.0, 10.0), (5.0, 9.0))


def test_outside_graphs_come_waits_first_and_nothing_replayed(result):
    found = rows.places(result, "decode", "ours")
    assert [kind for kind, _, _ in found] == ["wait", "copy to device", "launch", "vendor"]
    assert "rmsnorm" not in {name for _, name, _ in found}


def test_the_heading_names_what_ran(result):
    assert rows.heading(result) == (
        "Qwen3ForCausalLM, tiny shape, 1 layer (a layer: by difference from 2), "
        "4 requests of 64 tokens"
    )
    result |= {"layers": 36, "layers_compared_with": None, "quantisation": "awq", "eager": True}
    assert rows.heading(result) == (
        "Qwen3ForCausalLM, tiny shape, 36 layers, awq, 4 requests of 64 tokens, without graphs"
    )
