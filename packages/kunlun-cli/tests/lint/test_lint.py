# SPDX-License-Identifier: Apache-2.0
"""The command, and what it says of this project's wheels and of vLLM's own models."""

import collections
import json
import re
from pathlib import Path

import pytest

from vllm_kunlun.cli import lint as command
from vllm_kunlun.cli.lint.installed import folders
from vllm_kunlun.platforms import version

ROOT = Path(__file__).parents[4]
PLANTED = "from vllm.attention import AttentionType\nimport flash_attn\n"
VLLM = {
    "activation": 7,
    "attention": 11,
    "compile": 6,
    "load-weights": 7,
    "pp-missing": 40,
    "pp-tensors": 2,
    "prefix": 31,
    "stacked-params": 2,
}
"""Findings in the model files of vLLM 0.15.1. Each was read: all are so but the one of
``stacked-params`` in chatglm.py, whose mapping is for a class of another file."""
NOT_IMPORTED_WITH_0_33 = {
    "packages/kunlun-ops/src/vllm_kunlun/ops/kv_transfer/offloading.py",
    "packages/kunlun-ops/src/vllm_kunlun/ops/vllm_compat/transfer_result.py",
    "packages/kunlun-platform/src/vllm_kunlun/platforms/ranks/ray_executor.py",
    "packages/kunlun-quant/src/vllm_kunlun/quantization/formats/gptq.py",
    "packages/kunlun-quant/src/vllm_kunlun/quantization/formats/marlin.py",
    "packages/kunlun-quant/src/vllm_kunlun/quantization/linear/gptq.py",
}
"""What they are for is refused there, by name (``platforms/vllm_compat/not_yet.py``)."""


@pytest.fixture
def planted(tmp_path):
    file = tmp_path / "model.py"
    file.write_text(PLANTED)
    return file


def test_a_clean_file_and_one_with_findings(run, tmp_path, planted):
    clean = tmp_path / "clean.py"
    clean.write_text("x = 1\n")
    assert run("lint", clean).exit_code == 0
    result = run("lint", tmp_path)
    assert result.exit_code == 1
    assert f"{planted}:1:1: vllm-names" in result.stdout
    assert "why: " in result.stdout
    assert "2 files, 2 findings" in result.stderr
    wide = [line for line in result.stdout.splitlines() if len(line) > 80]
    assert all(str(tmp_path) in line for line in wide)


def test_json_and_sarif(run, run_json, planted):
    code, content = run_json("lint", planted)
    assert code == 1
    assert (content["files"], content["mended"]) == (1, 0)
    assert [each["rule"] for each in content["findings"]] == ["vllm-names", "attention"]
    assert [each["fixable"] for each in content["findings"]] == [True, False]
    result = run("lint", planted, "--format", "sarif")
    assert len(json.loads(result.stdout)["runs"][0]["results"]) == 2


def test_fix_mends_what_can_be_and_tells_the_rest(run_json, planted):
    code, content = run_json("lint", planted, "--fix")
    assert (code, content["mended"]) == (1, 1)
    assert [each["rule"] for each in content["findings"]] == ["attention"]
    assert planted.read_text().startswith("from vllm.v1.attention.backend import AttentionType\n")


def test_one_rule_alone_and_the_list(run_json, planted):
    _, content = run_json("lint", planted, "--rule", "attention")
    assert [each["rule"] for each in content["findings"]] == ["attention"]
    code, content = run_json("lint", "--rules")
    assert code == 0
    assert "prefix" in [each["name"] for each in content["rules"]]


def test_what_cannot_be_done_is_said(run, monkeypatch, planted):
    assert "lint PATH" in run("lint").stderr
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    result = run("lint", planted)
    assert result.exit_code == 2
    assert "pip install 'kunlun-cli[lint]'" in result.stderr


def test_a_message_of_a_commit(run, tmp_path):
    message = tmp_path / "message"
    message.write_text("[Doc] A page\n\nSigned-off-by: A Name <a@example.org>\n")
    assert run("lint", "--message", message).exit_code == 0
    message.write_text("A page\n")
    assert run("lint", "--message", message).exit_code == 1


def test_the_hooks_call_it_with_options_that_it_has(run, monkeypatch, tmp_path, planted):
    hooks = (ROOT / ".pre-commit-hooks.yaml").read_text()
    entries = re.findall(r"entry: vllm-kunlun (.+)", hooks)
    assert len(entries) == 2
    message = tmp_path / "message"
    message.write_text("A page\n")
    for entry, file in zip(entries, (planted, message), strict=True):
        assert run(*entry.split(), file).exit_code == 1


def test_our_own_wheels_have_no_finding(run_json):
    wheels = [*ROOT.glob("packages/*/src"), *ROOT.glob("packages/kunlun-models/*/src")]
    wheels.append(ROOT / "examples")
    code, content = run_json("lint", *wheels)
    found = {Path(each["file"]).relative_to(ROOT).as_posix() for each in content["findings"]}
    if version.lies_in(version.V0_33):
        assert found == NOT_IMPORTED_WITH_0_33
    else:
        assert (code, found) == (0, set())
    assert content["files"] > 400


@pytest.mark.slow
def test_vllms_own_models_have_those_that_were_read(run_json):
    """Two minutes: 237 files."""
    (vllm,) = folders("vllm")
    _, content = run_json("lint", vllm / "model_executor" / "models")
    assert dict(collections.Counter(each["rule"] for each in content["findings"])) == VLLM
