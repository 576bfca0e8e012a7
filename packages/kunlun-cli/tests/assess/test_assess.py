# SPDX-License-Identifier: Apache-2.0
"""``assess`` as a person or a script calls it."""

from __future__ import annotations

import json
import shlex

import pytest

SHAPE = {"num_hidden_layers": 2, "max_position_embeddings": 4096}


def test_text_and_json_and_page_say_the_same(run, run_json, configuration, tmp_path):
    folder = configuration("qwen3", "Qwen3ForCausalLM", **SHAPE)
    report = tmp_path / "page.html"
    text = run("assess", folder, "--report", report)
    assert text.exit_code == 0, text.output
    code, found = run_json("assess", folder)
    assert code == 0
    assert found["smallest"] == 1
    assert found["command"] in text.stdout
    assert found["command"] in report.read_text()
    assert [way["cards"] for way in found["ways"]] == [1, 2, 4, 8]
    assert found["length"] == 4096


def test_the_command_is_one_that_serve_takes(run_json, configuration):
    folder = configuration("qwen3", "Qwen3ForCausalLM", **SHAPE)
    _, found = run_json(
        *("assess", folder / "config.json", "--length", 100),
        *("--dtype", "bfloat16", "--trust-remote-code"),
    )
    argv = shlex.split(found["command"])
    assert argv[:2] == ["vllm-kunlun", "serve"]
    assert "100" in argv
    assert "--trust-remote-code" in argv
    assert argv.count("--dtype") == 1
    assert argv[argv.index("--dtype") + 1] == "bfloat16" == found["dtype"]


def test_a_model_that_fits_nowhere_ends_with_code_1(run_json, configuration):
    folder = configuration(
        "qwen3", "Qwen3ForCausalLM", hidden_size=65536, intermediate_size=262144, head_dim=128,
        num_attention_heads=512, num_hidden_layers=64,
    )  # fmt: skip
    code, found = run_json("assess", folder)
    assert code == 1
    assert found["command"] is None
    assert [way["cards"] for way in found["ways"]] == [1, 2, 4, 8, 16, 32]


def test_a_stage_more_is_for_what_one_host_does_not_hold(run_json, configuration):
    folder = configuration("deepseek_v3", "DeepseekV3ForCausalLM")
    code, found = run_json("assess", folder)
    assert code == 0
    assert found["smallest"] == 16
    assert "--pipeline-parallel-size 2" in found["command"]
    assert found["attention"] == ["61 layers: latent attention, 576 numbers a token"]


def test_what_vllm_lacks_is_measured_by_transformers(run_json, configuration):
    folder = configuration("qwen3", "UnheardOfForCausalLM", **SHAPE)
    _, found = run_json("assess", folder)
    assert found["case"]["letter"] == "B"
    assert found["ways"][0]["weight_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no/such/folder",), "neither a folder"),
        (("no/such/folder", "--report", "x.txt"), "ends in .html or .json"),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, arguments, words):
    result = run("assess", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_card_s_limit_is_the_reason(run, configuration):
    folder = configuration("bloom", "BloomForCausalLM", hidden_size=64, n_head=8)
    result = run("assess", folder)
    assert result.exit_code == 1
    assert "1 cards, refused: head_size=8" in result.stdout
    assert json.loads(run("assess", folder, "--json").stdout)["ways"][0]["refused"]
