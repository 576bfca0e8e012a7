# SPDX-License-Identifier: Apache-2.0
"""``doctor --symptom``: planted faults that repeat or do not load are named, and healthy models
have none."""

from __future__ import annotations

import json

import pytest
from support import damage, planted
from vllm import ModelRegistry
from vllm.plugins import load_general_plugins

from vllm_kunlun.cli.main import app


@pytest.fixture
def doctor(capfd, monkeypatch):
    """``doctor(symptom, folder)``: exit code and the object. gloo writes in front of it."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

    def run(symptom, folder):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app(["doctor", "--symptom", symptom, str(folder), "--json"])
        said = capfd.readouterr().out
        return ended.value.code, json.loads(said[said.index("{\n") :])

    return run


def _next_is(shift):
    """The token that follows is the last one plus ``shift``: no layer adds anything."""

    def edit(state):
        for name, tensor in state.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                tensor.zero_()
        state["lm_head.weight"] = state["model.embed_tokens.weight"].roll(shift, 0)

    return damage.tensors(edit)


@pytest.fixture
def counting(checkpoint, tmp_path):
    """``counting(shift, sampling)``: a checkpoint that counts by ``shift``."""

    def make(shift, sampling):
        folder = damage.copy(checkpoint("qwen3"), tmp_path / "model", _next_is(shift))
        (folder / "generation_config.json").write_text(json.dumps(sampling))
        return folder

    return make


SAMPLES = {"do_sample": True, "temperature": 0.7}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "sampling", "cause"),
    [(1, SAMPLES, None), (0, SAMPLES, "greedy decoding"), (1, {}, "sampling")],
)
def test_what_repeats(doctor, counting, shift, sampling, cause):
    code, said = doctor("repeats", counting(shift, sampling))
    assert (code, said["cause"]) == (int(cause is not None), cause), said
    answers = next(each for each in said["checks"] if each["name"] == "answers")
    assert answers["status"] == "ok"


@pytest.mark.slow
def test_a_wrong_class_that_repeats_is_named(doctor, checkpoint, tmp_path, monkeypatch):
    fault = planted.FAULTS["interleaved rotation"]
    folder = damage.copy(
        checkpoint(fault.checkpoint), tmp_path / "model",
        damage.configured(architectures=["RepeatsForCausalLM"]),
    )  # fmt: skip
    load_general_plugins()
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))
    ModelRegistry.register_model("RepeatsForCausalLM", fault.model)
    code, said = doctor("repeats", folder)
    assert (code, said["cause"]) == (1, "answers")
    assert fault.found in said["checks"][0]["detail"]


K_PROJ = "layers.1.self_attn.k_proj.weight"
WEIGHTS = {
    "healthy": (lambda folder: None, None, "parameters are filled"),
    "missing": (
        damage.without(K_PROJ),
        "weights",
        f"without a tensor, 0 tensors that do not fit: model.{K_PROJ}",
    ),
    "wider": (damage.each(K_PROJ, damage.wider(0)), "weights", "1 tensors that do not fit"),
    "cut": (damage.cut(damage.WEIGHTS, lambda size: size - 1), "weights", damage.WEIGHTS),
}
"""Kind -> what is done to the folder, the cause, and what is said of it."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_do_not_fit(kind, doctor, checkpoint, tmp_path):
    change, cause, word = WEIGHTS[kind]
    code, said = doctor("weights", damage.copy(checkpoint("qwen3"), tmp_path / "model", change))
    assert (code, said["cause"]) == (int(cause is not None), cause), said
    assert word in said["checks"][0]["detail"]
