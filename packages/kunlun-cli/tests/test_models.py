# SPDX-License-Identifier: Apache-2.0
"""``models``: families and their presets; a family that does not load."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli import models as models_command
from vllm_kunlun.platforms.families import LoadedFamilies, ModelFamily, ServingPreset


@pytest.fixture
def planted(monkeypatch):
    family = ModelFamily(
        name="planted",
        distribution="kunlun-models-planted",
        architectures={"PlantedForCausalLM": None},
        preset=ServingPreset(
            args={"dtype": "float16"},
            environment={"XPU_USE_DEFAULT_CTX": "1"},
            why={"dtype": "because"},
        ),
        status="untested",
    )
    failures: dict[str, Exception] = {}
    monkeypatch.setattr(
        models_command, "load_families", lambda: LoadedFamilies({"planted": family}, failures)
    )
    return failures


def test_text_and_json_show_the_preset_with_its_reason(run, run_json, planted):
    text = run("models")
    assert text.exit_code == 0
    for part in ("planted", "PlantedForCausalLM", "--dtype float16", "because", "XPU_USE_"):
        assert part in text.stdout
    code, value = run_json("models")
    assert code == 0
    assert value["families"][0]["preset"]["args"] == {"dtype": "float16"}
    assert value["failures"] == {}


def test_a_family_that_does_not_load_is_exit_code_1(run, run_json, planted):
    planted["broken"] = ModuleNotFoundError("No module named 'gone'")
    code, value = run_json("models")
    assert code == 1
    assert "gone" in value["failures"]["broken"]
    assert "family broken failed to load" in run("models").stderr


@pytest.mark.parametrize(
    ("architecture", "runs", "said", "then"),
    [
        ("Qwen3ForCausalLM", True, "the family qwen (kunlun-models-qwen)", "vllm-kunlun serve"),
        ("LlamaForCausalLM", True, "vLLM's class runs it", "vllm-kunlun verify"),
        (
            "NobodyKnowsForCausalLM",
            False,
            "neither vLLM nor an installed wheel",
            "vllm-kunlun adapt",
        ),
    ],
)
def test_one_checkpoint_is_told_what_would_run_it(
    run_json, tmp_path, architecture, runs, said, then
):
    (tmp_path / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
    code, value = run_json("models", str(tmp_path))
    assert (code, value["runs"]) == (0 if runs else 1, runs)
    assert value["architecture"] == architecture
    assert said in value["verdict"]
    assert value["next"].startswith(then)


def test_a_name_whose_configuration_is_not_here_says_how_to_fetch_it(run):
    told = run("models", "owner/not-here")
    assert told.exit_code == 1
    assert "hf download owner/not-here config.json" in told.stdout
