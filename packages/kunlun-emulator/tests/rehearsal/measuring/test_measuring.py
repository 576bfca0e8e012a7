# SPDX-License-Identifier: Apache-2.0
"""What is measured of a model, and what is refused before a process is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vllm_kunlun.emulator.rehearsal import measuring
from vllm_kunlun.emulator.rehearsal.measuring import known, process
from vllm_kunlun.platforms.errors import CheckpointError, UnsupportedError


@pytest.fixture
def asked(monkeypatch):
    """Requests that reached the measuring process, each with the configurations in its folders."""
    found = []

    def run(request, log):
        configs = [json.loads(Path(each, "config.json").read_text()) for each in request.folders]
        found.append((request, configs))
        phase = {"steps": 1, "milliseconds": 1.0, "asked": []}
        model = {"captured_bytes": 0, "prefill": phase, "decode": phase}
        return {
            "models": [model] * len(configs),
            "vllm_classes": [],
            "dtype": "bfloat16",
            "surroundings": {},
        }

    monkeypatch.setattr(process, "run", run)
    return found


def rehearse(model, **options):
    return measuring.rehearse(str(model), options, None, lambda _: None)


def test_a_known_name_runs_small_with_one_period_more(asked):
    result = rehearse("qwen3-next")
    [(request, configs)] = asked
    assert [each["num_hidden_layers"] for each in configs] == [4, 8]
    assert request.vocabulary == configs[0]["vocab_size"] < 2000
    assert not request.plain
    assert (result["layers"], result["layers_compared_with"]) == (4, 8)
    assert (result["schema"], list(result["runs"])) == (1, ["ours"])
    assert result["dtype"] == "bfloat16"


def test_its_own_sizes_with_few_layers(asked):
    rehearse("deepseek-v3", shape="real", layers=2)
    [(_, configs)] = asked
    real = known.configuration("deepseek-v3")
    assert [each["num_hidden_layers"] for each in configs] == [2, 3]
    assert [each["first_k_dense_replace"] for each in configs] == [1, 1]
    assert configs[0]["n_routed_experts"] == real["n_routed_experts"]


def test_both_classes_run_one_after_the_other(asked):
    result = rehearse("qwen3", classes=("ours", "vllm"))
    assert [request.plain for request, _ in asked] == [False, True]
    assert list(result["runs"]) == ["ours", "vllm"]


def test_a_folder_lends_what_describes_its_tokens_and_no_weights(asked, monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(known.configuration("qwen3")))
    for name in ("tokenizer.json", "model.safetensors", "model.safetensors.index.json"):
        (tmp_path / name).write_text("{}")
    stand_in, seen = process.run, []

    def run(request, log):
        seen.extend(sorted(file.name for file in Path(request.folders[0]).iterdir()))
        return stand_in(request, log)

    monkeypatch.setattr(process, "run", run)
    rehearse(tmp_path)
    assert seen == ["config.json", "tokenizer.json"]


def test_a_whole_checkpoint_runs_where_it_lies(asked, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(known.configuration("qwen3")))
    result = rehearse(tmp_path, shape="real", load_format="auto")
    [(request, _)] = asked
    assert request.folders == (str(tmp_path),)
    assert (result["layers"], result["layers_compared_with"]) == (36, None)


@pytest.mark.parametrize(
    "options", [{}, {"shape": "real", "layers": 2}, {"shape": "tiny"}], ids=str
)
def test_a_checkpoints_weights_fit_it_as_a_whole_only(asked, tmp_path, options):
    (tmp_path / "config.json").write_text(json.dumps(known.configuration("qwen3")))
    with pytest.raises(UnsupportedError, match="--load-format auto"):
        rehearse(tmp_path, load_format="auto", **options)
    assert asked == []


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, UnsupportedError, r"holds no config\.json"),
        ("{", CheckpointError, "is not JSON"),
        ("{}", CheckpointError, "names no architecture"),
        ('{"architectures": ["A"]}', CheckpointError, "no vocab_size"),
        ('{"architectures": ["A"], "vocab_size": 5}', UnsupportedError, "how many layers"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused_first(asked, tmp_path, text, error, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(error, match=message):
        rehearse(tmp_path)
    assert asked == []
