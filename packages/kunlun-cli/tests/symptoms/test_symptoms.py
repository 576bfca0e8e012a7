# SPDX-License-Identifier: Apache-2.0
"""``doctor --symptom``: what decides is named last, with its figure and the next step."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli import doctor
from vllm_kunlun.cli.check import Check
from vllm_kunlun.cli.symptoms import capture

FINE, ODD, ODDER = Check("a", "ok", "1"), Check("b", "warn", "2", "x"), Check("d", "warn", "4", "z")
BROKEN = Check("c", "fail", "3", "y")


@pytest.mark.parametrize(
    ("found", "code", "cause"),
    [([FINE, ODD, BROKEN], 1, "c"), ([FINE, ODD, ODDER], 1, "b"), ([FINE], 0, None)],
)
def test_what_fails_decides_then_what_is_odd(
    run, run_json, folder, monkeypatch, found, code, cause
):
    monkeypatch.setattr(doctor, "examine", lambda *_: found)
    model = folder()
    told = run_json("doctor", "--symptom", "garbage", model)
    assert told == (
        code,
        {"ok": code == 0, "symptom": "garbage", "cause": cause,
         "checks": [each._asdict() for each in found]},
    )  # fmt: skip
    text = run("doctor", "--symptom", "garbage", model).stdout
    decided = next((each for each in found if each.name == cause), None)
    if decided:
        assert text.endswith(f"It is: {cause}. {decided.detail}\nNext: {decided.fix}\n")
    else:
        assert "None of the causes" in text


def test_a_symptom_and_a_checkpoint_go_together(run, tmp_path):
    for arguments in (("--symptom", "garbage"), (tmp_path,)):
        told = run("doctor", *arguments)
        assert told.exit_code == 2
        assert "go together" in told.stderr
    told = run("doctor", "--symptom", "memory", tmp_path)
    assert told.exit_code == 2
    assert "holds no config.json" in told.stderr


def test_the_ops_that_cut_a_graph_are_named(run_json, folder, monkeypatch):
    monkeypatch.setattr(capture, "captured", lambda *_: [FINE])
    code, value = run_json("doctor", "--symptom", "graphs", folder())
    assert code == 0
    (ops,) = (each for each in value["checks"] if each["name"] == "splitting_ops")
    assert "vllm::unified_attention_with_output" in ops["detail"]
