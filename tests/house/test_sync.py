# SPDX-License-Identifier: Apache-2.0
"""``support/sync.py``: what is said of a wheel outside of its folder follows its pyproject.toml."""

from __future__ import annotations

import json
import shutil

import pytest
import tomlkit

EMULATOR = "packages/kunlun-emulator"
MIMO = "packages/kunlun-models/mimo"


def edit(file, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_repository_is_up_to_date(run):
    done = run("sync", "--check")
    assert done.returncode == 0, done.stderr


def test_writing_twice_changes_nothing(tree, run):
    edit(tree / MIMO / "pyproject.toml", 'version = "0.1.0"', 'version = "1.3.2"')
    assert "wrote pyproject.toml" in run("sync").stdout
    once = (tree / "pyproject.toml").read_text()
    done = run("sync")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tree / "pyproject.toml").read_text() == once


def test_a_version_moves_the_extras(tree, run):
    edit(tree / MIMO / "pyproject.toml", 'version = "0.1.0"', 'version = "1.3.2"')
    done = run("sync", "--check")
    assert done.returncode == 1
    assert "pyproject.toml differ" in done.stderr and "run `nox -s sync`" in done.stderr
    run("sync")
    extras = tomlkit.parse((tree / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert "kunlun-models-mimo>=1.3,<1.4" in extras["xpu"]
    assert "kunlun-models-mimo>=1.3,<1.4" in extras["mimo"]


def test_a_wheel_that_goes_is_named_nowhere(tree, run):
    shutil.rmtree(tree / MIMO)
    assert run("sync").returncode == 0
    for file in ("pyproject.toml", "README.md"):
        assert "kunlun-models-mimo" not in (tree / file).read_text()


def test_the_catalogue_names_who_provides_what(tree, run):
    edit(tree / MIMO / "pyproject.toml", '["MiMo"]', '["MiMo", "QwenOfMiMo"]')
    run("sync")
    platforms = tree / "packages/kunlun-platform/src/vllm_kunlun/platforms"
    catalogue = json.loads((platforms / "wheels.json").read_text())
    assert catalogue["kunlun-mla"]["vllm_kunlun.attention_backends"] == ["mla", "mla_sparse"]
    assert "worker" in catalogue["kunlun-emulator"]["vllm_kunlun.emulator"]
    assert not any("vllm_kunlun.patches" in provides for provides in catalogue.values())
    order = [name for name, provides in catalogue.items() if "architectures" in provides]
    assert order.index("kunlun-models-mimo") < order.index("kunlun-models-qwen")


def test_only_what_runs_without_a_card_is_left_out_of_xpu(tree, run):
    edit(tree / EMULATOR / "pyproject.toml", "card = false", "card = true")
    run("sync")
    extras = tomlkit.parse((tree / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert "kunlun-emulator>=0.1,<0.2" in extras["xpu"]
    assert "emulator" not in extras


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('owns = "vllm_kunlun.models.mimo"', 'owns = "mimo"', "owns must name its package"),
        ('architectures = ["MiMo"]', "", "architectures says how"),
    ],
)
def test_a_wheel_that_says_too_little_is_refused(tree, run, old, new, said):
    edit(tree / MIMO / "pyproject.toml", old, new)
    done = run("sync")
    assert done.returncode == 1
    assert f"{MIMO}/pyproject.toml: [tool.kunlun]" in done.stderr and said in done.stderr


def test_a_lost_block_is_an_error(tree, run):
    edit(tree / "pyproject.toml", "# sources: end\n", "")
    done = run("sync")
    assert done.returncode == 1 and "pyproject.toml must hold one block" in done.stderr
