# SPDX-License-Identifier: Apache-2.0
"""The files of a wheel, and what is refused before any is written."""

from __future__ import annotations

import json

import pytest

from vllm_kunlun.cli.adapt.wheel import Wheel, check_destination, write
from vllm_kunlun.platforms.errors import UnsupportedError

PACKAGE = "src/vllm_kunlun/models/two_words"
ALWAYS = {
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "tests/test_family.py",
    *(f"{PACKAGE}/{name}" for name in ("__init__.py", "family.py", "py.typed")),
}  # fmt: skip


def test_without_a_model_file(tmp_path):
    files = write(tmp_path, Wheel("two-words", "TwoWordsForCausalLM", experts=True))
    assert {str(file) for file in files} == ALWAYS
    family = (tmp_path / PACKAGE / "family.py").read_text()
    assert 'architectures={"TwoWordsForCausalLM": None}' in family
    assert "ServingPreset.recommended(experts=True)" in family
    project = (tmp_path / "pyproject.toml").read_text()
    assert "vllm.general_plugins" not in project
    assert "no model file is needed" in (tmp_path / "README.md").read_text()


def test_around_a_model_file(tmp_path):
    wheel = Wheel(
        "two-words", "TwoWordsForCausalLM", file="words.py", text="# the class\n",
        model="TwoWords", origin="planted", config={"vocab_size": 320},
    )  # fmt: skip
    files = {str(file) for file in write(tmp_path, wheel)}
    assert files == {
        *ALWAYS, f"{PACKAGE}/words.py", f"{PACKAGE}/plugin.py", "tests/test_parity.py",
        "tests/config.json",
    }  # fmt: skip
    for file in files:
        if file.endswith(".py"):
            compile((tmp_path / file).read_text(), file, "exec")
    family = (tmp_path / PACKAGE / "family.py").read_text()
    assert '"TwoWordsForCausalLM": "vllm_kunlun.models.two_words.words:TwoWords"' in family
    project = (tmp_path / "pyproject.toml").read_text()
    for group, entries in wheel.entry_points.items():
        assert f'[project.entry-points."{group}"]' in project
        assert all(f'{name} = "{value}"' in project for name, value in entries.items())
    assert json.loads((tmp_path / "tests/config.json").read_text()) == {"vocab_size": 320}
    assert "Apache License" in (tmp_path / "LICENSE").read_text()
    readme = (tmp_path / "README.md").read_text()
    assert "uv build --wheel\npip install dist/kunlun_models_two_words-0.1.0-py3-none-any" in readme
    assert "pip install kunlun-models" not in readme  # it is on no index


def test_nothing_is_written_over(tmp_path):
    check_destination(tmp_path)
    check_destination(tmp_path / "not-there")
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(UnsupportedError, match="nothing is written over them"):
        check_destination(tmp_path)
    with pytest.raises(UnsupportedError, match="is a file"):
        check_destination(tmp_path / "kept")
