# SPDX-License-Identifier: Apache-2.0
"""A pair of checkpoints."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def pair(tmp_path):
    """Folders of a quantised and a plain checkpoint, of which only config.json is there."""
    folders = tmp_path / "quantised", tmp_path / "plain"
    for folder, more in zip(folders, ({"quantization_config": {"bits": 4}}, {}), strict=True):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"vocab_size": 10, **more}))
    return folders


@pytest.fixture
def result():
    """Of ``verify MODEL``: a model of 14 layers with a wrong gate in the second."""
    prompt = {"prompt_tokens": [5], "tokens": [1, 2], "expected": [1, 3], "first_difference": 1,
              "near_tie": False, "largest_difference": 2.5, "ok": False}  # fmt: skip
    right = {**prompt, "prompt_tokens": [5, 6], "tokens": [1, 3], "first_difference": None,
             "largest_difference": 1e-6, "ok": True}  # fmt: skip
    place = {"module": "model.layers.1.mlp.gate_up_proj", "what": "output", "error": 1.4,
             "checkpoint": "model.layers.1.mlp.gate_proj", "wrong": True}  # fmt: skip
    module = "model.layers.1.mlp.gate_up_proj"
    return {
        "ok": False, "verdict": "DIFFERENT: <b>.", "next": "look", "model": "/m",
        "reference": "/m", "judge": "HF transformers, float32 on the host",
        "dtype": "float32", "limit": 1e-3, "limit_nats": 0.01,
        "surroundings": {"date": "today", "device": "emulated", "emulated": True, "python": "3.12",
                         "wheels": {"vllm": "0.15.1"}},
        "registration": {"architecture": "TinyForCausalLM", "class": "a.b:C", "wheel": "w",
                         "how": "new"},
        "prompts": [prompt, right],
        "layers": [{"before": 0.0, "after": 1e-6 if at < 1 else 0.5,
                    "added": 0.5 if at == 1 else 0.0} for at in range(14)],
        "zone": "model.layers.1",
        "places": [{**place, "module": "model.layers.1.input_layernorm", "error": 1e-7,
                    "checkpoint": "model.layers.1.input_layernorm", "wrong": False}, place],
        "cause": {"module": module, "checkpoint": place["checkpoint"], "kind": "weights",
                  "weight_error": 1.4, "text": "was given a wrong weight: it is up's",
                  "next": "look at load_weights"},
        "unlocated": None, "unpaired": [], "http": None,
    }  # fmt: skip
