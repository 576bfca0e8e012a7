# SPDX-License-Identifier: Apache-2.0
"""``doctor --symptom graphs``: on the rehearsed card a model's graphs are captured, or it is said
why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from support import damage
from support.plugged import plugin

PROGRAM = "from vllm_kunlun.cli.main import app; app()"
PLUGIN = '''
import torch
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM


@torch.library.custom_op("planted::looks", mutates_args=())
def looks(x: torch.Tensor) -> torch.Tensor:
    return x * (1.0 if x.sum().item() > 0 else 1.0)


@looks.register_fake
def _(x):
    return torch.empty_like(x)


class Waits(Qwen3ForCausalLM):
    """It reads a value of the device in every layer."""

    def __init__(self, *, vllm_config, prefix=""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        for layer in self.model.layers:
            act = layer.mlp.act_fn.forward
            layer.mlp.act_fn.forward = lambda x, act=act: looks(act(x))


class Undecorated(Qwen3ForCausalLM):
    """Its decoder runs as one without the decorator does."""

    def __init__(self, *, vllm_config, prefix=""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.model.do_not_compile = True


def register():
    from vllm import ModelRegistry
    ModelRegistry.register_model("UndecoratedForCausalLM", "planted_plugin:Undecorated")
    ModelRegistry.register_model("WaitsForCausalLM", "planted_plugin:Waits")
'''
GRAPHS = {
    "healthy": ("Qwen3ForCausalLM", None, "Graph capturing finished"),
    "undecorated": ("UndecoratedForCausalLM", "capture", "none was captured"),
    "waits": ("WaitsForCausalLM", "capture", "a value is read on the host"),
}
"""Kind -> architecture, cause, and what is said of it."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", GRAPHS)
def test_graphs_that_are_not_captured(kind, checkpoint, tmp_path):
    architecture, cause, word = GRAPHS[kind]
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("qwen3"), folder)
    damage.configured(architectures=[architecture])(folder)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "doctor", "--symptom", "graphs", str(folder), "--json"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "VLLM_KUNLUN_DEVICE": "rehearsal",
             "PYTHONPATH": str(plugin(tmp_path / "site", PLUGIN))},
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (done.returncode, said["cause"]) == (int(cause is not None), cause), said
    named = next(each for each in said["checks"] if each["name"] == "capture")
    assert word in named["detail"]
