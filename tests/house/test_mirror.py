# SPDX-License-Identifier: Apache-2.0
"""``support/mirror.py``: each source file has a test of its name, or a reason why not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SOURCES = {
    "packages/kunlun-ops": ("ops/plugin.py", "ops/layers/norm.py", "ops/layers/__init__.py"),
    "packages/kunlun-models/qwen": ("models/qwen/family.py", "models/qwen/__init__.py"),
}


@pytest.fixture(scope="module")
def mirror():
    spec = importlib.util.spec_from_file_location("mirror", ROOT / "support" / "mirror.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def house(tmp_path):
    """Two wheels, each file with its test, and no exception."""
    for wheel, files in SOURCES.items():
        for file in files:
            place(tmp_path, f"{wheel}/src/vllm_kunlun/{file}")
        place(tmp_path, f"{wheel}/pyproject.toml")
    place(tmp_path, "packages/kunlun-ops/tests/test_plugin.py")
    place(tmp_path, "packages/kunlun-ops/tests/with_vllm/layers/test_norm.py")
    place(tmp_path, "packages/kunlun-models/qwen/tests/test_family.py")
    excuse(tmp_path)
    return tmp_path


def place(root, file, text=""):
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def excuse(root, *files, reason="planted"):
    place(
        root,
        "support/without_test.toml",
        f'[[group]]\nreason = "{reason}"\nfiles = {list(files)}\n',
    )


def test_a_house_in_order_has_no_problem(mirror, house):
    assert mirror.check(house) == []


LAYERS = "packages/kunlun-ops/src/vllm_kunlun/ops/layers"


@pytest.mark.parametrize("text", ["def f(): ...", "class A: ..."])
def test_a_package_that_defines_something_wants_a_test(mirror, house, text):
    place(house, f"{LAYERS}/__init__.py", text)
    (problem,) = mirror.check(house)
    assert problem.startswith(f"{LAYERS}/__init__.py lacks a test: write packages/kunlun-ops/tests")
    place(house, "packages/kunlun-ops/tests/test_layers.py")
    assert mirror.check(house) == []


@pytest.mark.parametrize("family", [False, True])
def test_a_file_without_a_test_is_named_with_the_test(mirror, house, family):
    wheel, area = ("models/qwen", "models/qwen") if family else ("ops", "ops")
    source = f"packages/kunlun-{wheel}/src/vllm_kunlun/{area}/deep/_new.py"
    place(house, source)
    (problem,) = mirror.check(house)
    assert problem.startswith(
        f"{source} lacks a test: write packages/kunlun-{wheel}/tests/deep/test_new.py"
    )
    excuse(house, source)
    assert mirror.check(house) == []
    excuse(house, source, reason="")
    assert "need a reason" in "".join(mirror.check(house))


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (f"{LAYERS}/norm.py", "needs no exception"),
        (f"{LAYERS}/__init__.py", "needs no exception"),
        (f"{LAYERS}/*.py", "needs no exception"),
        (f"{LAYERS}/gone.py", "does not exist"),
    ],
)
def test_an_exception_that_is_none_is_named(mirror, house, file, problem):
    excuse(house, file)
    found = mirror.check(house)
    assert found
    for each in found:
        assert problem in each


def test_this_house_is_in_order(mirror):
    assert len(list(mirror.sources(ROOT))) > 200
    assert mirror.check(ROOT) == []
