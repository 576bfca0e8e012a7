# SPDX-License-Identifier: Apache-2.0
"""A wheel that ``adapt`` wrote, as its README says to use it: built, installed, tested, served.

In a clean environment: wheels of this tree beside vLLM, and nothing of the tree itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
import transformers
from support import clean
from support.reference import Reference
from support.served_tokens import greedy
from support.server import server

NAME = "helium"
ARCHITECTURE = "HeliumForCausalLM"  # vLLM has none
WHEELS = ("kunlun-cli[lint]", "kunlun-emulator", "kunlun-custom-ops", "vllm==0.15.1", "pytest")
PACKAGE = f"vllm_kunlun.models.{NAME}"
COUNT = 16
LONG_SECONDS = 1800
"""An environment is made, and each of a dozen programs imports vLLM."""
SERVE = "vllm-kunlun serve /path/to/checkpoint"


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """The folder of the environment's commands; pip is one of them."""
    folder = tmp_path_factory.mktemp("clean")
    dist = clean.build(folder / "dist")
    return clean.environment(folder / "env", dist, *WHEELS, seed=True).parent


def blocks(text: str) -> list[list[str]]:
    """The lines of each block of commands."""
    found = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


def run(programs: Path, script: str, folder: Path) -> str:
    """What ``script`` prints in ``folder``, with the environment switched on."""
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **_switched_on(programs)},
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _switched_on(programs: Path) -> dict[str, str]:
    path = f"{programs}:{os.environ['PATH']}"
    return {"PATH": path, "VIRTUAL_ENV": str(programs.parent), "PIP_NO_INDEX": "1"}


@pytest.fixture(scope="module")
def wheel(programs, tmp_path_factory) -> Path:
    """Its folder, as ``adapt`` wrote it."""
    folder = tmp_path_factory.mktemp(NAME)
    config = transformers.CONFIG_MAPPING[NAME](architectures=[ARCHITECTURE])
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    said = run(programs, "vllm-kunlun adapt config.json --out wheel --no-prove --json", folder)
    found = json.loads(said)
    assert (found["case"], found["todo"]) == ("B", [])
    return folder / "wheel"


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS)
def test_the_readme_s_commands_build_install_test_and_lint_it(wheel, programs):
    found = blocks((wheel / "README.md").read_text())
    commands = [line for block in found for line in block if line != SERVE]
    assert len(commands) == 6
    said = run(programs, "\n".join(["exec 2>&1", *commands]), wheel)
    assert len(re.findall(r"\b3 passed, 3 deselected", said)) == 2, said  # quick, then slow
    assert " 0 findings" in said
    where = run(programs, f"python -c 'import {PACKAGE}.plugin as m; print(m.__file__)'", wheel)
    assert Path(where.strip()).is_relative_to(programs.parent), where


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS)
def test_a_server_of_it_answers_as_transformers(wheel, programs, tmp_path):
    page = (clean.ROOT / "docs" / "adapt.md").read_text().partition("## Build and install it")[2]
    (build, install, last), *_ = blocks(page)
    run(programs, f"{build}\n{install}".replace("DIR", str(wheel)).replace("NAME", NAME), wheel)
    assert last == SERVE
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(wheel / "tests")
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # of norms, which begin with a constant
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "model")
    generator = torch.Generator().manual_seed(7)
    prompts = [torch.randint(3, 320, (n,), generator=generator).tolist() for n in (1, 5, 17, 33)]

    command = [str(programs / "vllm-kunlun"), "serve", str(tmp_path / "model"),
               *("--dtype", "float32", "--max-model-len", "128", "--skip-tokenizer-init"),
               *("--kv-cache-memory-bytes", str(64 * 2**20))]  # fmt: skip
    with server(command, tmp_path / "log", 600, **_switched_on(programs)) as running:
        answers = greedy(running, prompts, COUNT)
    expected = [Reference(model).greedy(prompt, COUNT) for prompt in prompts]
    assert answers == expected
    assert f"preset of the {NAME} family, {ARCHITECTURE}" in (tmp_path / "log").read_text()
