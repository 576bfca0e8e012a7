# SPDX-License-Identifier: Apache-2.0
"""``support/new_family.py``: the wheel that it writes is like the others, and known everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomlkit

FAMILIES = "packages/kunlun-models"


def read(file: Path):
    return tomlkit.parse(file.read_text()).unwrap()


def files(root: Path) -> dict[Path, bytes]:
    found = (file for file in root.rglob("*") if "__pycache__" not in file.parts)
    return {file.relative_to(root): file.read_bytes() for file in found if file.is_file()}


def test_outside_of_its_folder_only_blocks_change(tree, run):
    before = files(tree)
    done = run("new_family", "two-words", "--architecture", "TwoWordsForCausalLM")
    assert done.returncode == 0, done.stderr
    folder = Path(FAMILIES, "two-words")
    changed = {file for file, text in files(tree).items() if before.get(file) != text}
    outside = {file.as_posix() for file in changed if folder not in file.parents}
    platforms = "packages/kunlun-platform/src/vllm_kunlun/platforms"
    assert outside == {"pyproject.toml", "README.md", f"{platforms}/wheels.json"}
    assert run("sync", "--check").returncode == 0

    assert {file.relative_to(folder).as_posix() for file in changed if folder in file.parents} == {
        *("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "tests/test_family.py"),
        *("changelog.d/+family.feature.md", "changelog.d/.gitignore"),
        *(
            f"src/vllm_kunlun/models/two_words/{name}"
            for name in ("__init__.py", "family.py", "py.typed")
        ),
    }
    root = read(tree / "pyproject.toml")
    requirement = "kunlun-models-two-words>=0.1,<0.2"
    extras = root["project"]["optional-dependencies"]
    assert requirement in extras["xpu"]
    assert extras["two-words"] == [requirement, *extras["mimo"][1:]]
    assert "vllm_kunlun.models.two_words" in root["tool"]["importlinter"]["root_packages"]
    assert f"{folder}/src" in root["tool"]["mypy"]["mypy_path"]
    catalogue = json.loads((tree / platforms / "wheels.json").read_text())
    assert catalogue["kunlun-models-two-words"] == {"architectures": ["TwoWords"]}


def test_its_pyproject_is_that_of_the_other_families(tree, run):
    run("new_family", "acorn")
    made = read(tree / FAMILIES / "acorn" / "pyproject.toml")
    like = read(tree / FAMILIES / "mimo" / "pyproject.toml")
    assert made["project"].pop("description") == "Acorn on Kunlun cards under vLLM"
    like["project"].pop("description")
    text = tomlkit.dumps(like).replace("mimo", "acorn").replace("MiMo", "Acorn")
    assert made == tomlkit.parse(text).unwrap()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mimo", "exists"),
        ("all", "exists"),
        ("emulator", "exists"),
        ("Mistral", "lower-case"),
        ("two_words", "lower-case"),
        ("1st", "lower-case"),
        ("../up", "lower-case"),
        ("class", "no word of Python's"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tree, run, name, said):
    before = files(tree)
    done = run("new_family", name)
    assert done.returncode == 1 and said in done.stderr
    assert files(tree) == before


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--architecture", "acorn v2", "must be a class's name"),
        ("--title", 'an "acorn"', "must be one line without quotation marks"),
    ],
)
def test_a_word_that_no_file_can_hold_is_refused(tree, run, option, value, said):
    done = run("new_family", "acorn", option, value)
    assert done.returncode == 1 and said in done.stderr
    assert not (tree / FAMILIES / "acorn").exists()
