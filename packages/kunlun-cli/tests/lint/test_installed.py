# SPDX-License-Identifier: Apache-2.0
"""Modules and names of installed packages, without importing them."""

import json

from vllm_kunlun.cli.lint.installed import defines, folders, module_file


def test_a_package_a_namespace_and_none():
    assert module_file("json.decoder").name == "decoder.py"
    assert module_file("json").name == "__init__.py"
    assert module_file("vllm_kunlun.ops.activation").name == "activation.py"
    assert module_file("vllm_kunlun").is_dir()
    assert module_file("json.no_such") is None
    assert folders("no_such_package") == ()


def test_names_are_those_that_an_import_gives():
    told = defines(module_file("json"))
    real = {name for name in vars(json) if not name.startswith("__")}
    assert real - {"decoder", "encoder", "scanner"} <= told  # those are modules beside it


def test_a_module_that_makes_names_when_it_runs_is_not_told(tmp_path):
    for number, text in enumerate(("from os import *", "globals()['a'] = 1",
                                   "def __getattr__(name): ...")):  # fmt: skip
        file = tmp_path / f"{number}.py"
        file.write_text(text + "\n")
        assert defines(file) is None


def test_names_in_branches_count(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("try:\n    import a\nexcept ImportError:\n    b = 1\nif 1:\n    c: int = 2\n")
    assert defines(file) == {"a", "b", "c"}
