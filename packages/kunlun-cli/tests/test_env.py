# SPDX-License-Identifier: Apache-2.0
"""``env``: the table, what is set, what nobody reads."""

from __future__ import annotations

from vllm_kunlun.platforms import envs


def test_json_lists_the_whole_table(run_json):
    code, value = run_json("env")
    assert code == 0
    assert {row["name"] for row in value["variables"]} == set(envs.TABLE)


def test_set_lists_only_what_is_set(run_json, monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_MAX_N", "7")
    _, value = run_json("env", "--set")
    rows = {row["name"]: row["value"] for row in value["variables"]}
    assert rows["VLLM_KUNLUN_MAX_N"] == "7"
    assert "VLLM_KUNLUN_PACK_LINEAR" not in rows


def test_a_misspelt_variable_is_named_with_what_it_resembles(run, run_json, monkeypatch):
    monkeypatch.setenv("VLLM_KUNLUN_DEVISE", "xpu")
    _, value = run_json("env")
    assert value["unread"] == {"VLLM_KUNLUN_DEVISE": "VLLM_KUNLUN_DEVICE"}
    assert "did you mean VLLM_KUNLUN_DEVICE?" in run("env").stdout


def test_it_is_said_what_a_card_starts_with(run, run_json, monkeypatch):
    monkeypatch.delenv("XPU_USE_DEFAULT_CTX", raising=False)
    _, value = run_json("env")
    rows = {row["name"]: row for row in value["variables"]}
    given = {name: row["on_card"] for name, row in rows.items() if row["on_card"] is not None}
    assert given == envs.card_values()
    assert rows["XPU_USE_DEFAULT_CTX"]["value"] is None, "there is no card"
    assert "at start" in run("env").stdout
