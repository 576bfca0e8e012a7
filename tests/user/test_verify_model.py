# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun verify MODEL``: a model that is right passes, and each planted fault is named."""

from __future__ import annotations

import json
import shutil

import pytest
from support import json_output, mimo, planted, sparse, w8a8
from vllm import ModelRegistry
from vllm.plugins import load_general_plugins

from vllm_kunlun.cli.main import app


@pytest.fixture
def verify(capfd, monkeypatch):
    """``verify(folder, ...)``: exit code and the object. gloo writes in front of it."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app(["verify", *map(str, arguments), "--max-tokens", "4", "--json"])
        said = capfd.readouterr().out
        return ended.value.code, json_output.read("verify", said[said.index("{\n") :])

    return run


@pytest.fixture(scope="module")
def source(checkpoint, tmp_path_factory):
    """``source(name)``: a checkpoint of ``support.checkpoints``, or one in W8A8."""

    def make(name):
        if name != "w8a8":
            return checkpoint(name)
        folder = tmp_path_factory.mktemp("w8a8")
        return w8a8.quantise(checkpoint("llama-even"), folder, w8a8.Scheme(), ())

    return make


def test_a_model_that_is_right_passes(verify, checkpoint, tmp_path):
    report = tmp_path / "report.html"
    code, result = verify(checkpoint("qwen3"), "--report", report)
    assert (code, result["ok"], result["cause"]) == (0, True, None), result["verdict"]
    rows = len(result["prompts"])  # another test may have put a tokenizer into the folder
    assert rows >= 3
    assert result["verdict"].startswith(f"EQUAL: {4 * rows} greedy tokens of {rows} answers")
    assert all(row["largest_difference"] < 1e-4 for row in result["prompts"])
    assert len(result["layers"]) == 3
    assert all(0 <= layer["after"] < 1e-5 for layer in result["layers"])
    assert result["registration"]["how"] == "overwritten"
    assert result["registration"]["wheel"] == "kunlun-models-qwen"
    assert "EQUAL" in report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", planted.FAULTS)
def test_a_planted_fault_is_found_and_its_module_named(name, verify, source, tmp_path, monkeypatch):
    fault = planted.FAULTS[name]
    folder = tmp_path / "model"
    shutil.copytree(source(fault.checkpoint), folder)
    config = json.loads((folder / "config.json").read_text())
    # A name of its own: vLLM keeps the class that it found for one.
    architecture = f"{name.title().replace(' ', '')}ForCausalLM"
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture]}))
    load_general_plugins()
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))
    ModelRegistry.register_model(architecture, fault.model)
    code, result = verify(folder)
    assert (code, result["ok"]) == (1, False)
    assert result["registration"]["how"] == "new"
    cause = result["cause"]
    assert (cause["checkpoint"], cause["kind"]) == (fault.found, fault.kind), result["verdict"]
    assert fault.word in cause["text"]
    assert fault.found in result["verdict"]


@pytest.mark.slow
def test_vllm_s_own_class_judges_what_transformers_lacks(verify, tmp_path):
    """MiMo-V2-Flash by its own choice; and, of DeepSeek-V3.2, the sparse choice of keys."""
    models = (mimo.write(tmp_path / "mimo"), sparse.write(tmp_path / "v32", topk=24))
    for folder, more in zip(models, (["--trust-remote-code"], []), strict=True):
        code, result = verify(folder, *more)
        assert code == 0, result["verdict"]
        assert result["judge"] == "vLLM's own class on torch formulas, float32 on the host"
        assert "those of vLLM's own class on torch formulas" in result["verdict"]
        assert all(row["largest_difference"] < 1e-4 for row in result["prompts"])
        assert len(result["layers"]) > 1
        assert all(0 <= layer["after"] < 1e-5 for layer in result["layers"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "found", "kind", "word"),
    [
        ("gate and up swapped", "mlp.gate_up_proj", "weights", "was given a wrong weight"),
        (
            "interleaved rotation",
            "self_attn.rotary_emb",
            "formula",
            "=False, and True gives",
        ),
        ("no head norms", "self_attn.q_norm", "not called", "q_norm and k_norm"),
    ],
)
def test_vllm_s_own_class_finds_a_planted_fault(
    name, found, kind, word, verify, source, tmp_path, monkeypatch
):
    fault, right, folder = planted.FAULTS[name], tmp_path / "right", tmp_path / "model"
    for each in (right, folder):
        shutil.copytree(source(fault.checkpoint), each)
    config = json.loads((folder / "config.json").read_text())
    architecture = f"Judged{name.title().replace(' ', '')}ForCausalLM"
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture]}))
    load_general_plugins()
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))
    ModelRegistry.register_model(architecture, fault.model)
    code, result = verify(folder, "--reference", right, "--judge", "vllm")
    assert code == 1
    cause = result["cause"]
    assert (cause["module"], cause["kind"]) == (f"model.layers.0.{found}", kind), result["verdict"]
    assert word in cause["text"]


@pytest.mark.slow
def test_quantised_and_other_classes_that_are_right_pass(verify, source):
    """Classes that join, name and order their modules otherwise; one of them judged by floats."""
    for name in ("qwen3-moe-even", "deepseek-v2", "gemma2", "bloom"):
        code, result = verify(source(name))
        assert (code, result["ok"]) == (0, True), (name, result["verdict"])
    code, result = verify(source("w8a8"), "--reference", source("llama-even"))
    assert code == 0, result["verdict"]


@pytest.mark.slow
def test_a_server_is_asked_the_same(verify, checkpoint):
    code, result = verify(checkpoint("qwen3"), "--http")
    assert (code, result["http"]["ok"]) == (0, True), result["verdict"]
    assert result["http"]["tokens"] == [row["tokens"] for row in result["prompts"]]
    assert "vllm serve answers the same" in result["verdict"]
