# SPDX-License-Identifier: Apache-2.0
"""``ops list``, and names that are no function's."""

from __future__ import annotations

import pytest

from vllm_kunlun.ops.contract.functions import contract


def test_list_has_every_function(run, run_json):
    code, value = run_json("ops", "list")
    assert code == 0
    assert [row["name"] for row in value["functions"]] == [each.name for each in contract()]
    row = {row["name"]: row for row in value["functions"]}["kunlun_ops.prefill_attention"]
    assert row["live"] is True
    assert row["surface"] == "kunlun_ops"
    assert "prefill-lse" in row["assumptions"]
    assert "vllm_kunlun.ops.attention.implementation" in row["callers"]
    text = run("ops", "list").stdout
    for each in contract():
        assert each.name.split(".")[1] in text
    assert f"{len(contract())} functions" in text


def test_list_of_one_function(run):
    text = run("ops", "list", "add_rmsnorm").stdout
    assert "assumes norm-sum-before-rounding, norm-weight-dtype" in text
    assert "called by ops.torch_ops.norm" in text
    assert "gemma" not in text


@pytest.mark.parametrize("command", ["list", "check"])
def test_an_unknown_name_is_exit_code_2_with_near_ones(run, command):
    result = run("ops", command, "rms_norm")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Did you mean rmsnorm" in result.stderr
