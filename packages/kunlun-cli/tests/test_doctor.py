# SPDX-License-Identifier: Apache-2.0
"""``doctor``: well here, and all of it said; exit code 1 if a check fails."""

from __future__ import annotations

from vllm_kunlun.cli import checks
from vllm_kunlun.cli.check import Check


def test_a_sound_installation_is_ok(run, run_json):
    code, value = run_json("doctor")
    assert {check["status"] for check in value["checks"]} <= {"ok", "warn"}
    assert (code, value["ok"]) == (0, True)
    assert all(set(check) == {"name", "status", "detail", "fix"} for check in value["checks"])
    names = {check["name"] for check in value["checks"]}
    assert {"vllm", "torch", "device", "platform", "wheel kunlun-platform"} <= names
    assert {f"entry points {group}" for group in checks.GROUPS} <= names
    assert "All is well." in run("doctor").stdout


def test_each_finding_is_a_line_with_what_to_do(run, run_json, monkeypatch):
    found = [
        Check("one", "ok", "as it should be"),
        Check("two", "warn", "odd", "look"),
        Check("three", "fail", "broken", "mend it"),
    ]
    monkeypatch.setattr(checks, "run", lambda say: found)
    code, value = run_json("doctor")
    assert (code, value["ok"]) == (1, False)
    assert value["checks"] == [each._asdict() for each in found]
    text = run("doctor")
    assert text.exit_code == 1
    for each in found:
        assert each.name in text.stdout
        assert each.detail in text.stdout
        assert each.fix in text.stdout
    assert "All is well." not in text.stdout


def test_a_warning_alone_is_exit_code_0(run_json, monkeypatch):
    monkeypatch.setattr(checks, "run", lambda say: [Check("two", "warn", "odd", "look")])
    assert run_json("doctor")[0] == 0
