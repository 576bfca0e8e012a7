# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun rehearse`` as a user runs it: a folder with nothing but a config.json."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support import checkpoints, json_output

BATCH, STEPS = 2, 4
CACHE = "kunlun_ops.reshape_and_cache_flash"


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """``command(config, *options)``: the finished command."""

    def run(config, *options):
        folder = tmp_path_factory.mktemp("model")
        (folder / "config.json").write_text(json.dumps(config))
        code = "from vllm_kunlun.cli.main import app; app()"
        return subprocess.run(
            [sys.executable, "-c", code, "rehearse", str(folder), *map(str, options)],
            capture_output=True,
            text=True,
        )

    return run


def _qwen3():
    config = checkpoints.CONFIGURATIONS["qwen3"].to_dict()
    return {**config, "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "float32"}


def _by_name(phase, kind, span):
    found = {}
    for asked in phase["asked"]:
        if asked["kind"] == kind:
            found[asked["name"]] = found.get(asked["name"], 0) + asked[span]
    return found


def test_a_tiny_model_is_counted_by_step_and_by_layer(command, tmp_path):
    page = tmp_path / "page.html"
    done = command(
        _qwen3(), "--json", "--batch", BATCH, "--steps", STEPS, "--prompt-tokens", 9,
        "--report", page,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    value = json_output.read("rehearse", done.stdout)
    assert (value["schema"], value["layers"], value["layers_compared_with"]) == (1, 1, 2)
    assert value["dtype"] == "float16"  # what vLLM makes of "auto" and a checkpoint in float32
    for name in ("prefill", "decode"):
        phase = value["runs"]["ours"]["phases"][name]
        layer = _by_name(phase, "vendor", "per_layer")
        step = _by_name(phase, "vendor", "per_step")
        # One layer: each function of it once a step, or as often as the layer asks for it.
        assert layer[CACHE] == step[CACHE] == 1
        assert all(count == round(count) for count in (*layer.values(), *step.values()))
        assert sum(layer.values()) >= 4
    page_text = page.read_text()
    assert page_text.startswith("<!DOCTYPE html>")
    assert "Qwen3ForCausalLM" in page_text


def test_an_architecture_without_a_class_is_one_line(command):
    done = command({**_qwen3(), "architectures": ["NobodyForCausalLM"]})
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "NobodyForCausalLM" in errors[0]
    assert "Traceback" not in done.stderr
