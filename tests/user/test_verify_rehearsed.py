# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun verify MODEL`` on the rehearsed card: what is right passes, a fault is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import damage, planted
from support.plugged import plugin

FAULT = planted.FAULTS["gate and up swapped"]
PLUGIN = """
def register():
    from vllm import ModelRegistry
    from support.planted import FAULTS
    ModelRegistry.register_model("SwappedForCausalLM", FAULTS["gate and up swapped"].model)
"""


def verify(folder: Path, site: Path) -> tuple[int, dict]:
    """Exit code and the object, of a process whose device is the rehearsed card from its start."""
    paths = f"{plugin(site, PLUGIN)}:{Path(__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, "-c", "from vllm_kunlun.cli.main import app; app()", "verify",
         str(folder), "--max-tokens", "4", "--json"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "VLLM_KUNLUN_DEVICE": "rehearsal", "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.stdout, done.stderr[-4000:]
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_a_model_that_is_right_passes(checkpoint, tmp_path):
    code, result = verify(checkpoint("qwen3"), tmp_path / "site")
    assert (code, result["ok"], result["cause"]) == (0, True, None), result["verdict"]
    assert result["surroundings"]["device"] == "the emulator, on a rehearsed card"
    assert all(row["largest_difference"] < 1e-4 for row in result["prompts"])
    assert all(0 <= layer["after"] < 1e-5 for layer in result["layers"])


@pytest.mark.slow
def test_a_planted_fault_is_found_and_its_module_named(checkpoint, tmp_path):
    folder = damage.copy(
        checkpoint(FAULT.checkpoint), tmp_path / "model",
        damage.configured(architectures=["SwappedForCausalLM"]),
    )  # fmt: skip
    code, result = verify(folder, tmp_path / "site")
    assert (code, result["ok"]) == (1, False)
    cause = result["cause"]
    assert (cause["checkpoint"], cause["kind"]) == (FAULT.found, FAULT.kind), result["verdict"]
    assert FAULT.word in cause["text"]
