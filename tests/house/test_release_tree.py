# SPDX-License-Identifier: Apache-2.0
"""``support/releasing/tree.py``: a release is made in a clone, and taken over as a whole."""

from __future__ import annotations

import subprocess

import pytest
from releasing.tree import adopt, changed, check_clean, clone, commit, git, tags


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        git(root, "config", key, value)
    (root / "a.txt").write_text("1\n")
    commit(root, "[Misc] A\n\nWhy.\n")
    return root


def test_what_is_not_committed_is_named(repository):
    check_clean(repository)
    (repository / "b.txt").write_text("2\n")
    with pytest.raises(SystemExit, match=r"commit or stash first.*\n.*b\.txt"):
        check_clean(repository)


def test_a_clones_commit_is_taken_over_and_tagged(repository, tmp_path):
    before = git(repository, "rev-parse", "HEAD")
    made = clone(repository, tmp_path / "clone")
    (made / "b.txt").write_text("2\n")
    assert changed(made) == ["b.txt"]
    commit(made, "[Misc] B\n\nWhy.\n")
    assert git(repository, "rev-parse", "HEAD") == before
    adopt(repository, made, "a-v0.2.0", "a 0.2.0\n\n#### New\n\n- b\n")
    check_clean(repository)
    assert git(repository, "rev-parse", "HEAD~1") == before
    assert (repository / "b.txt").read_text() == "2\n"
    assert tags(repository) == ["a-v0.2.0"]
    assert "#### New" in git(repository, "tag", "--list", "--format=%(contents)")
    assert "Signed-off-by: A <a@example.org>" in git(repository, "log", "-1", "--format=%B")


def test_a_branch_that_moved_on_takes_nothing(repository, tmp_path):
    made = clone(repository, tmp_path / "clone")
    for root, name in ((made, "b.txt"), (repository, "c.txt")):
        (root / name).write_text("2\n")
        commit(root, "[Misc] More\n\nWhy.\n")
    with pytest.raises(subprocess.CalledProcessError):
        adopt(repository, made, "a-v0.2.0", "a 0.2.0\n")
    assert tags(repository) == []
