# SPDX-License-Identifier: Apache-2.0
"""``serve``: the preset fills the gaps, the user wins, vLLM's own command gets the rest."""

from __future__ import annotations

import json
import os
import sys

import pytest

from vllm_kunlun.cli import serve as serve_command
from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError
from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

FAMILY = ModelFamily(
    name="planted",
    distribution="kunlun-models-planted",
    architectures={"PlantedForCausalLM": None},
    preset=ServingPreset(
        args={"dtype": "float16", "block-size": 64, "enable-prefix-caching": False},
        environment={"XPU_USE_DEFAULT_CTX": "1", "BKCL_FORCE_SYNC": "1"},
        why={"dtype": "faster"},
    ),
    status="untested",
)


@pytest.fixture
def model(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["PlantedForCausalLM"]}))
    monkeypatch.setattr(
        serve_command, "family_for", lambda a: FAMILY if a == "PlantedForCausalLM" else None
    )
    return tmp_path


def test_preset_is_applied_where_the_user_said_nothing(run_json, model, monkeypatch):
    monkeypatch.setenv("BKCL_FORCE_SYNC", "0")
    monkeypatch.delenv("XPU_USE_DEFAULT_CTX", raising=False)
    code, value = run_json("serve", model, "--dry-run", "--port", "8123")
    assert code == 0
    assert value["argv"] == [
        *("vllm", "serve", str(model), "--port", "8123"),
        *("--dtype", "float16", "--block-size", "64", "--no-enable-prefix-caching"),
    ]
    assert value["environment"] == {"XPU_USE_DEFAULT_CTX": "1"}
    assert value["applied"]["dtype"] == "faster"
    assert os.environ["BKCL_FORCE_SYNC"] == "0"
    assert os.environ["XPU_USE_DEFAULT_CTX"] == "1"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--dtype", "float32"], {"block-size", "enable-prefix-caching"}),
        (["--dtype=float32"], {"block-size", "enable-prefix-caching"}),
        (["--block_size", "128"], {"dtype", "enable-prefix-caching"}),
        (["--enable-prefix-caching"], {"dtype", "block-size"}),
        (["--no-enable-prefix-caching"], {"dtype", "block-size"}),
        (["-tp", "2"], {"dtype", "block-size", "enable-prefix-caching"}),
    ],
)
def test_what_the_user_gave_wins(run_json, model, given, kept):
    _, value = run_json("serve", model, "--dry-run", *given)
    assert value["argv"][: 3 + len(given)] == ["vllm", "serve", str(model), *given]
    assert set(value["applied"]) == kept


def test_what_the_config_file_gives_wins(run_json, model, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("dtype: float32\nblock_size: 16\n")
    _, value = run_json("serve", model, "--dry-run", "--config", settings)
    assert set(value["applied"]) == {"enable-prefix-caching"}


def test_text_tells_what_was_applied(run, model):
    result = run("serve", model, "--dry-run")
    assert "--dtype float16: faster" in result.stderr
    assert "XPU_USE_DEFAULT_CTX=1" in result.stderr


def test_vllms_own_command_gets_the_arguments(run, model, monkeypatch):
    import vllm.entrypoints.cli.main as vllm_main

    seen = []
    monkeypatch.setattr(vllm_main, "main", lambda: seen.append(list(sys.argv)))
    monkeypatch.setattr(sys, "argv", ["before"])
    assert run("serve", model, "--port", "1", "--dtype", "float32").exit_code == 0
    assert seen[0][:7] == ["vllm", "serve", str(model), "--port", "1", "--dtype", "float32"]


def test_an_architecture_without_a_family_gets_a_template(run_json, model):
    (model / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    _, value = run_json("serve", model, "--dry-run")
    assert (value["family"], value["preset"]) == (None, "template A for a dense model")
    assert value["argv"][3:] == ["--dtype", "float16", "--block-size", "64"]


def test_a_model_that_generates_nothing_gets_vllms_defaults(run_json, model):
    (model / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    _, value = run_json("serve", model, "--dry-run")
    assert value["argv"] == ["vllm", "serve", str(model)]


def test_a_template_by_name(run_json, model):
    _, value = run_json("serve", model, "--dry-run", "--template", "moe")
    assert value["preset"] == "template B for a mixture of experts"
    assert run_json("serve", model, "--dry-run", "--template", "dense")[0] == 0


def test_explain_starts_nothing(run, run_json, model):
    result = run("serve", model, "--explain", "--port", "8123")
    assert result.exit_code == 0
    assert "--port 8123  (you)" in result.stdout
    assert "--dtype float16  (preset of the planted family)\n    faster" in result.stdout
    _, value = run_json("serve", model, "--explain", "--port", "8123")
    assert value["explained"][0] == {
        "name": "--port", "value": "8123", "source": "you", "why": "Port number",
    }  # fmt: skip


def test_a_model_of_the_hub_that_is_not_here_gets_vllms_defaults(run_json):
    code, value = run_json("serve", "owner/not-downloaded", "--dry-run")
    assert (code, value["architecture"], value["family"]) == (0, None, None)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('{"architectures": ["Qw', "damaged"),
        (None, "config.json"),
        ("\x00\xff", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "architectures"),
        ('"x"', "architectures"),
        ("{}", "architectures"),
        ('{"architectures": 5}', "architectures"),
        ('{"architectures": "Qwen3ForCausalLM"}', "architectures"),
        ('{"architectures": []}', "architectures"),
        ('{"architectures": [null]}', "architectures"),
        ('{"architectures": [""]}', "architectures"),
        ('{"architectures": null}', "architectures"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(run, tmp_path, content, word):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    result = run("serve", tmp_path, "--dry-run")
    assert result.exit_code == 2
    assert word in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, lambda path: path.symlink_to("gone"), lambda path: path.symlink_to(path)],
    ids=["pipe", "folder", "broken-link", "looping-link"],
)
def test_a_config_that_is_no_file(run, tmp_path, make):
    make(tmp_path / "config.json")
    done = run("serve", str(tmp_path), "--dry-run")
    assert done.exit_code == 2
    assert str(tmp_path / "config.json") in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [None, "- a\n- b", "a: [", "\x00"])
def test_a_config_option_that_names_no_options(run, model, content):
    file = model / "options.yaml"
    if content is not None:
        file.write_text(content)
    given = [] if content is None else [str(file)]
    done = run("serve", str(model), "--dry-run", "--config", *given)
    assert done.exit_code == 2
    assert "--config" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_that_is_not_there(run, tmp_path):
    result = run("serve", tmp_path / "gone", "--dry-run")
    assert result.exit_code == 2
    assert "correct the path" in result.stderr


def test_an_unsupported_vllm_is_refused(run, model, monkeypatch):
    monkeypatch.delenv("VLLM_KUNLUN_ALLOW_UNTESTED_VLLM", raising=False)
    monkeypatch.setattr(version, "installed_vllm", lambda: "0.11.0")
    result = run("serve", model, "--dry-run")
    assert result.exit_code == 2
    assert "0.11.0" in result.stderr
    assert ">=0.15.1,<0.16" in result.stderr


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (UnsupportedError("no file: do this."), ["error: no file: do this.\n"]),
        (CheckpointError("no norm."), ["error: no norm.\n"]),
        (ValueError("too long"), ["error: vLLM refuses its Options, size: too long\n"]),
    ],
    ids=["ours", "checkpoint", "vllms"],
)
def test_what_pydantic_wraps_is_one_sentence(run, model, monkeypatch, raised, says):
    from pydantic import field_validator
    from pydantic.dataclasses import dataclass
    from vllm.entrypoints.cli import main

    @dataclass
    class Options:
        size: int

        @field_validator("size")
        @classmethod
        def check(cls, size: int) -> int:
            raise raised

    monkeypatch.setattr(main, "main", lambda: Options(size=1))
    monkeypatch.setattr(sys, "argv", sys.argv)
    done = run("serve", model)
    assert done.exit_code == 2
    assert done.stderr.splitlines(keepends=True)[-1:] == says
    assert "Traceback" not in done.stderr
