# SPDX-License-Identifier: Apache-2.0
"""Classes that ``adapt`` writes, in the engine: what no model shows that vLLM lacks.

vLLM has a class for each of these; the one that is written answers under a name of its own.
"""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from support import damage
from support.engine import engine, greedy_with_logprobs
from support.reference import Reference
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from vllm import ModelRegistry
from vllm.plugins import load_general_plugins

from vllm_kunlun.cli.adapt.tiny import shrunk
from vllm_kunlun.cli.adapt.translate.translated import translate

MODELS = {
    "olmo2": {"num_key_value_heads": 8},  # norms over all heads
    "olmo3": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},  # and angles by layer
    "gemma3_text": {},  # angles of two bases, embeddings that scale themselves
}
"""Model type -> what its configuration says other than usual."""
COUNT = 16


@pytest.mark.slow
@pytest.mark.parametrize("model_type", MODELS)
def test_it_answers_as_transformers(model_type, tmp_path, monkeypatch):
    config = shrunk(CONFIG_MAPPING[model_type](**MODELS[model_type]))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # of norms, which begin with a constant
                parameter += 0.1 * torch.randn_like(parameter)
    found = translate(model)
    assert found.todo == []
    written = getattr(_imported(tmp_path, f"translated_{model_type}", found.text, monkeypatch),
                      type(model).__name__)  # fmt: skip
    architecture = f"Translated{type(model).__name__}"
    load_general_plugins()
    monkeypatch.setattr(ModelRegistry, "models", dict(ModelRegistry.models))
    ModelRegistry.register_model(architecture, written)
    model.save_pretrained(tmp_path / "model")
    damage.configured(architectures=[architecture])(tmp_path / "model")

    generator = torch.Generator().manual_seed(7)
    prompts = [torch.randint(3, 320, (n,), generator=generator).tolist() for n in (1, 5, 17, 33)]
    with engine(tmp_path / "model") as llm:
        answers = greedy_with_logprobs(llm, prompts, COUNT)
    reference = Reference(model)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        best, expected = reference.judge(prompt, tokens)
        assert tokens == best
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=2e-3, rtol=0)


def _imported(folder, name, text, monkeypatch):
    file = folder / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # vLLM asks for a class's source
    spec.loader.exec_module(module)
    return module
