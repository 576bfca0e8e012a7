# SPDX-License-Identifier: Apache-2.0
"""Commits of a real repository, and a message that is about to be one."""

import subprocess

import pytest

from vllm_kunlun.cli.lint import commits
from vllm_kunlun.platforms.errors import UnsupportedError

GOOD = "[Feature] A model\n\nWhy.\n\nSigned-off-by: A Name <a@example.org>"


@pytest.fixture
def git(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments):
        who = ("-c", "user.name=A Name", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    call("init", "-b", "main")
    call("commit", "--allow-empty", "-m", "before anybody looked")
    call("tag", "start")
    return call


def lint(folder, since="start"):
    found = commits.lint_commits(folder, since, commits.COMMIT_RULES)
    return [(each.rule, each.message) for each in found]


def test_good_commits_on_a_good_branch(git, tmp_path):
    git("switch", "-c", "feature/add-my-model")
    git("commit", "--allow-empty", "-m", GOOD)
    git("commit", "--allow-empty", "-m", f"fixup! {GOOD}")
    assert lint(tmp_path) == []


def test_each_fault_is_found(git, tmp_path):
    git("switch", "-c", "my-model")
    git("commit", "--allow-empty", "-m", "Add a model")
    assert lint(tmp_path) == [
        ("commit-subject", "'Add a model' has no prefix"),
        ("commit-signed-off", "'Add a model' is not signed off"),
        ("branch-name", "the branch is called my-model"),
    ]


def test_the_trunk_and_what_was_before_are_not_looked_at(git, tmp_path):
    assert lint(tmp_path) == []


def test_no_such_commit_and_no_repository(git, tmp_path):
    with pytest.raises(UnsupportedError, match="--since wants a repository"):
        lint(tmp_path, "no-such")


def test_a_message_without_the_comments_of_git(tmp_path):
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(GOOD + "\n# Please enter the message\n")
    assert commits.lint_message(file, commits.COMMIT_RULES) == []
    file.write_text("# Signed-off-by: A Name <a@example.org>\n[Feature] A model\n")
    found = commits.lint_message(file, commits.COMMIT_RULES)
    assert [each.rule for each in found] == ["commit-signed-off"]
    with pytest.raises(UnsupportedError, match="--message"):
        commits.lint_message(tmp_path / "gone", commits.COMMIT_RULES)
