# SPDX-License-Identifier: Apache-2.0
"""``examples/my-kunlun-op`` as its author would use it: built, installed elsewhere, tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import fake_vendor, vendor_calls

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "my-kunlun-op"


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which the example's wheel was installed."""
    folder = tmp_path_factory.mktemp("example")
    run("uv", "build", "--wheel", "--out-dir", folder / "dist", EXAMPLE)
    (wheel,) = (folder / "dist").glob("my_kunlun_op-*.whl")
    site = folder / "site"
    run("uv", "pip", "install", "--python", sys.executable, "--no-deps", "--target", site, wheel)
    return site


def run_its_tests(path: list[str], **environment: str) -> str:
    return run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
        f"--rootdir={EXAMPLE}", EXAMPLE / "tests",
        PYTHONPATH=os.pathsep.join(path), **environment,
    )  # fmt: skip


def test_its_tests_pass_from_the_wheel(installed):
    """Values, declaration, compilation in one graph, and the refusal of a false declaration."""
    assert "8 passed" in run_its_tests([str(installed)])


def test_its_calls_of_the_vendor_are_within_the_contract(installed, tmp_path):
    path = [str(installed), *fake_vendor.import_path()]
    records = tmp_path / "records"
    assert "8 passed" in run_its_tests(path, **fake_vendor.environment(records))
    calls = list(vendor_calls.read(records))
    assert {call["function"] for call in calls} == {"kunlun_ops.add_rmsnorm"}
    fake_vendor.assert_within_contract(calls)


def test_the_page_shows_the_code_that_is_tested():
    page = (ROOT / "docs" / "writing-your-own-op.md").read_text()
    code = "".join(file.read_text() for file in EXAMPLE.rglob("*.py"))
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:  # the formatter shifts code on a page to the left
        assert "".join(block.split()) in "".join(code.split())
