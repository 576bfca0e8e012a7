# SPDX-License-Identifier: Apache-2.0
"""The record of the support matrix: what a cell becomes, and what fails a run."""

from __future__ import annotations

import json
import subprocess

import pytest
from support import commit
from support.features import FEATURES
from support.matrix import Cell, Matrix, NotApplicable, NotTried, path_of

from vllm_kunlun.platforms.errors import UnsupportedError

OLD, NOW = "aaaaaaa (2026-01-02)", "bbbbbbb (2026-02-03)"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "matrix.json"


@pytest.fixture
def matrix(file, monkeypatch):
    """A run at NOW, after one at OLD in which all of Old passed."""
    before = Matrix(vllm="1", transformers="2", made_at=OLD)
    before.row("Old", None, "HF")
    for feature in FEATURES:
        before.rows["Old"].cells[feature] = Cell(status="pass", made_at=OLD)
    before.others["Other"] = Cell(status="pass", made_at=OLD)
    before.save(file)
    text = file.read_text()
    monkeypatch.setattr(commit, "committed", lambda path: text)
    monkeypatch.setattr(commit, "made_at", lambda: NOW)
    return Matrix.begin("3", "4", file)


def run(matrix, architecture, feature, error=None):
    with matrix.cell(architecture, feature):
        if error:
            raise error


ENDS = {
    "pass": (None, ""),
    "skipped": (NotTried("no tool"), "no tool"),
    "not applicable": (NotApplicable("no sense"), "no sense"),
    "refused": (UnsupportedError("not this. Take that"), "not this"),
    "fail": (ValueError("wrong"), "wrong"),
}


def test_runs_side_by_side_lose_no_cell(matrix, file):
    other = Matrix.begin("3", "4", file)
    matrix.row("New", None, "HF")
    other.row("Newer", None, "HF")
    run(matrix, "New", "eager")
    run(other, "Newer", "TP2")
    run(matrix, "Other", None)
    written = Matrix.load(file)
    for architecture, feature in (("New", "eager"), ("Newer", "TP2"), ("Other", None)):
        assert written.find(architecture, feature) == Cell(status="pass", made_at=NOW)


@pytest.mark.parametrize("status", ENDS)
def test_what_a_test_ends_with_is_the_cell_on_the_disk(matrix, file, status):
    error, reason = ENDS[status]
    matrix.row("New", "a-wheel", "HF")
    raised = {"skipped": pytest.skip.Exception, "fail": ValueError}.get(status)
    if raised:
        with pytest.raises(raised):
            run(matrix, "New", "eager", error)
    else:
        run(matrix, "New", "eager", error)
    found = Matrix.load(file)
    assert found.find("New", "eager") == Cell(status=status, reason=reason, made_at=NOW)
    assert (found.vllm, found.transformers) == ("3", "4")


def test_a_feature_that_no_run_reached_is_skipped_not_missing(matrix, file):
    matrix.row("New", None, "HF")
    matrix.other("Another")
    run(matrix, "New", "eager")
    found = Matrix.load(file)
    assert list(found.rows["New"].cells) == list(FEATURES)
    statuses = {found.find("New", feature).status for feature in FEATURES if feature != "eager"}
    assert statuses == {found.find("Another", None).status} == {"skipped"}


@pytest.mark.parametrize("status", ["refused", "skipped", "not applicable"])
@pytest.mark.parametrize(("name", "feature"), [("Old", "TP2"), ("Other", None)])
def test_what_passed_and_does_no_more_fails_the_run(matrix, file, status, name, feature):
    error, reason = ENDS[status]
    for _ in range(2):  # also where the file on the disk says it already
        with pytest.raises(AssertionError, match=f"it passed .* is now {status}: {reason}"):
            run(matrix, name, feature, error)
        assert Matrix.load(file).find(name, feature).status == status


def test_each_cell_has_its_commit_and_the_file_names_the_usual_one_once(matrix, file):
    run(matrix, "Old", "eager")
    run(matrix, "Other", None)
    assert file.read_text().count(OLD) == 1
    assert file.read_text().count(NOW) == 2
    found = Matrix.load(file)
    assert found.made_at == OLD
    assert found.commits() == {OLD: len(FEATURES) - 1, NOW: 2}
    for feature in FEATURES:
        run(matrix, "Old", feature)
    assert json.loads(file.read_text())["made_at"] == NOW
    assert OLD not in file.read_text()


@pytest.mark.parametrize(
    ("vllm", "name"),
    [("0.15.1", "matrix"), ("0.15.1+xpu", "matrix"), ("0.33.0", "matrix-0.33.0"),
     ("0.33.0+cpu", "matrix-0.33.0")],
)  # fmt: skip
def test_each_release_has_a_file(vllm, name):
    assert path_of(vllm).name == f"{name}.json"


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_changed_tree_says_so_and_the_matrix_itself_is_no_change(tmp_path, monkeypatch):
    monkeypatch.setattr(commit, "ROOT", tmp_path)
    assert "unknown" in commit.made_at()
    git(tmp_path, "init", "-q")
    (tmp_path / "support").mkdir()
    matrix = tmp_path / "support" / "matrix.json"
    for file in (matrix, tmp_path / "code.py"):
        file.write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one", "--date", "2026-01-02T03:04:05")
    clean = commit.made_at()
    assert len(clean) == len("aaaaaaa (2026-01-02)")
    matrix.write_text("2")
    assert commit.made_at() == clean
    assert commit.committed(matrix) == "1"
    assert commit.committed(tmp_path / "gone") is None
    (tmp_path / "code.py").write_text("2")
    assert commit.made_at() == f"{clean} with uncommitted changes"


def test_a_use_has_a_cell_of_its_own(matrix, file):
    run(matrix, "EAGLE", None, UnsupportedError("not this"))
    found = Matrix.load(file)
    assert found.uses == {"EAGLE": Cell(status="refused", reason="not this", made_at=NOW)}
    assert list(found.others) == ["Other"]
