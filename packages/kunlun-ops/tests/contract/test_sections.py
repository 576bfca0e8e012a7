# SPDX-License-Identifier: Apache-2.0
"""The page of the contract: every section that a docstring cites is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vllm_kunlun.ops.contract.functions import contract
from vllm_kunlun.ops.contract.limits import LIMITS

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "vendor-contract.md"
CITATION = re.compile(
    r"contract,?\s+sections?\s+(\d+(?:(?:,|\s+and|,\s+and)\s+\d+)*)", re.IGNORECASE
)

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not in a checkout")


def headings() -> set[int]:
    return {int(number) for number in re.findall(r"^## (\d+)\. ", PAGE.read_text(), re.MULTILINE)}


def cited(text: str) -> set[int]:
    """Numbers of sections in docstrings and comments, wherever their lines break."""
    flat = re.sub(r"\n\s*(?:#:?\s*)?", " ", text)
    return {int(n) for found in CITATION.findall(flat) for n in re.findall(r"\d+", found)}


def test_citations_are_found_in_each_form() -> None:
    assert cited("Source: contract section 2.") == {2}
    assert cited("# (contract\n    # section 6)") == {6}
    assert cited("contract sections 2 and 3") == {2, 3}
    assert cited("Contract section 10: encoders") == {10}
    assert cited("arXiv:2405.04434, section 2.1") == set()


def test_each_section_that_is_cited_is_a_heading() -> None:
    sources = [*ROOT.glob("packages/**/src/**/*.py"), *ROOT.glob("tests/**/*.py")]
    where = {(number, path.name) for path in sources for number in cited(path.read_text())}
    assert len(where) > 20
    assert {(number, name) for number, name in where if number not in headings()} == set()


def test_each_function_and_limit_lies_in_a_section_of_the_page() -> None:
    text = PAGE.read_text()
    assert {each.section for each in (*contract(), *LIMITS)} <= headings()
    for each in contract():
        assert text.count(f"### {each.name}\n") == 1
    for limit in LIMITS:
        assert text.count(f"| `{limit.name}` |") == 1


def test_the_page_is_what_would_be_written() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "support" / "render_contract.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
