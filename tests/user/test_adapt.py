# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun adapt`` and its proof: wheels whose models answer as transformers does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import json_output
from transformers import CONFIG_MAPPING

MODELS = {
    "helium": ("HeliumForCausalLM", "B"),  # only transformers has these two
    "vaultgemma": ("VaultGemmaForCausalLM", "B"),
    "arcee": ("ArceeForCausalLM", "A"),
}
COMMAND = str(Path(sys.executable).with_name("vllm-kunlun"))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", MODELS)
def test_the_wheel_is_written_linted_and_proved(model_type, tmp_path):
    architecture, case = MODELS[model_type]
    config = CONFIG_MAPPING[model_type](architectures=[architecture])
    file, wheel = tmp_path / "config.json", tmp_path / "wheel"
    file.write_text(json.dumps(config.to_dict()))
    done = subprocess.run(
        [COMMAND, "adapt", str(file), "--out", str(wheel), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json_output.read("adapt", done.stdout)
    assert (found["case"], found["todo"], found["proved"]) == (case, [], True)
    assert "passed" in found["tests"]
    assert (wheel / "tests" / "test_parity.py").is_file()
    linted = subprocess.run(
        [COMMAND, "lint", str(wheel)], capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout
