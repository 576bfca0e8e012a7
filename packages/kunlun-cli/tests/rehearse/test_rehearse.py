# SPDX-License-Identifier: Apache-2.0
"""``rehearse``: what it passes on, what it prints, what it refuses before anything runs."""

from __future__ import annotations

import json

import pytest

from vllm_kunlun.platforms import emulator
from vllm_kunlun.platforms.errors import KunlunError, MissingWheelError


@pytest.fixture
def asked(monkeypatch, result):
    """Stands for the emulator's measurement: model and options of each call."""
    calls = []

    def measure(model, options, log, say):
        say(f"measuring {model}")
        log.write("chatter")
        calls.append((model, options))
        return result

    monkeypatch.setattr(emulator, "load", {"rehearse": measure}.__getitem__)
    return calls


def test_json_is_the_result_alone(run_json, asked, result):
    code, value = run_json("rehearse", "qwen3")
    assert (code, value) == (0, result)
    [(model, options)] = asked
    assert model == "qwen3"
    assert options == {
        "shape": "tiny", "layers": None, "load_format": "dummy", "dtype": "auto", "batch": 4,
        "prompt_tokens": 64, "steps": 16, "eager": False, "classes": ("ours",),
    }  # fmt: skip


def test_options_are_passed_on(run, asked):
    told = run("rehearse", "folder", "--shape", "real", "--layers", 2, "--load-format", "dummy",
               "--dtype", "float32", "--batch", 8, "--prompt-tokens", 5, "--steps", 3, "--eager",
               "--classes", "both")  # fmt: skip
    assert told.exit_code == 0
    assert asked[0][1] == {
        "shape": "real", "layers": 2, "load_format": "dummy", "dtype": "float32", "batch": 8,
        "prompt_tokens": 5, "steps": 3, "eager": True, "classes": ("ours", "vllm"),
    }  # fmt: skip


def test_text_is_tables_and_progress_is_on_standard_error(run, asked):
    told = run("rehearse", "qwen3", "--classes", "vllm")
    assert told.exit_code == 0
    assert "A decode step" in told.stdout
    assert told.stderr == "measuring qwen3\n"
    assert asked[0][1]["classes"] == ("vllm",)


def test_reports_are_written(run, asked, tmp_path, result):
    for name in ("report.html", "report.json"):
        told = run("rehearse", "qwen3", "--report", tmp_path / name)
        assert f"Written: {tmp_path / name}" in told.stdout
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads((tmp_path / "report.json").read_text()) == result


@pytest.mark.parametrize("name", ["report.txt", "missing/report.html"])
def test_a_report_that_cannot_be_written_is_refused_first(run, asked, tmp_path, name):
    told = run("rehearse", "qwen3", "--report", tmp_path / name)
    assert told.exit_code == 2
    assert "--report" in told.stderr
    assert asked == []


def test_without_the_emulator_its_wheel_is_named(run, monkeypatch):
    def missing(part):
        raise MissingWheelError(f"{part}: pip install kunlun-emulator")

    monkeypatch.setattr(emulator, "load", missing)
    told = run("rehearse", "qwen3")
    assert (told.exit_code, told.stderr) == (2, "error: rehearse: pip install kunlun-emulator\n")


def test_a_measurement_that_fails_is_one_line(run, monkeypatch):
    def measure(*_):
        raise KunlunError("the rehearsal ended with code 1")

    monkeypatch.setattr(emulator, "load", lambda _: measure)
    told = run("rehearse", "qwen3")
    assert (told.exit_code, told.stderr) == (2, "error: the rehearsal ended with code 1\n")


@pytest.mark.parametrize("option", [("--shape", "huge"), ("--layers", 0), ("--batch", 0)])
def test_a_value_that_cannot_be_is_refused(run, asked, option):
    assert run("rehearse", "qwen3", *option).exit_code == 2
    assert asked == []


def test_an_unknown_name_is_told_the_known_ones(run):
    told = run("rehearse", "qwen9")
    assert told.exit_code == 2
    assert "'qwen9' is neither a folder nor a known name" in told.stderr
    assert told.stderr.count("\n") == 1
