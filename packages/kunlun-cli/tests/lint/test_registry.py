# SPDX-License-Identifier: Apache-2.0
"""The rules as a whole: names, texts, the page."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from vllm_kunlun.cli.lint import registry, rules
from vllm_kunlun.platforms.errors import UnsupportedError

ROOT = Path(__file__).parents[4]


def test_each_file_of_a_rule_is_registered_under_its_own_name():
    modules = [
        importlib.import_module(f"{rules.__name__}.{each.name}")
        for each in pkgutil.iter_modules(rules.__path__)
    ]
    found = {module.RULE.name: module.__name__ for module in modules if hasattr(module, "RULE")}
    assert {rule.name for rule in rules.SOURCE_RULES} == set(found)
    for name, module in found.items():
        assert module.rpartition(".")[2] == name.replace("-", "_")
    names = [rule.name for rule in registry.RULES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rule", registry.RULES, ids=lambda rule: rule.name)
def test_each_says_what_why_and_what_to_do(rule):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
    assert rule.finds
    assert rule.why
    assert rule.fix
    assert not rule.why.endswith(".")


def test_an_unknown_rule_is_refused_with_the_nearest():
    assert [rule.name for rule in registry.chosen(["x127", "prefix"])] == ["x127", "prefix"]
    assert registry.chosen([]) == registry.RULES
    with pytest.raises(UnsupportedError, match="nearest is prefix"):
        registry.chosen(["prefx"])


def test_the_page_holds_the_table():
    assert registry.as_table() in (ROOT / "docs" / "lint.md").read_text()
