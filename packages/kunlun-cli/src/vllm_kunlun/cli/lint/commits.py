# SPDX-License-Identifier: Apache-2.0
"""Commits and branches, held against the manual's rules for a request."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from vllm_kunlun.cli.lint.finding import Finding, Rule, at
from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["COMMIT_RULES", "lint_commits", "lint_message"]

PREFIXES = ("[Feature]", "[Bugfix]", "[CI/Build]", "[Doc]", "[Misc]")
_SIGNED = re.compile(r"^Signed-off-by: .+ <[^<>@\s]+@[^<>\s]+>$", re.MULTILINE)
_BRANCH = re.compile(r"(feature|bugfix)/[a-z0-9][a-z0-9._-]*")
_TRUNKS = ("main", "master", "HEAD")

SUBJECT = Rule(
    name="commit-subject",
    finds="a commit whose first line has no prefix",
    why="the list of changes is sorted by it",
    fix=f"begin the first line with one of {' '.join(PREFIXES)}: git commit --amend",
)
SIGNATURE = Rule(
    name="commit-signed-off",
    finds="a commit without Signed-off-by",
    why="without the Developer Certificate of Origin a request is not merged",
    fix="git commit --amend -s; of several: git rebase --signoff REV",
)
BRANCH = Rule(
    name="branch-name",
    finds="a branch that is neither feature/... nor bugfix/...",
    why="the request is sorted by it",
    fix="git branch -m feature/add-my-model, or bugfix/fix-what-was-wrong",
)
COMMIT_RULES = (SUBJECT, SIGNATURE, BRANCH)


def lint_commits(folder: Path, since: str, rules: Sequence[Rule]) -> list[Finding]:
    """What is wrong with the commits ``since..HEAD`` of the repository of ``folder``.

    Raises:
        UnsupportedError: it is no repository, git is not there, or knows no such commit.
    """
    found: list[Finding] = []
    log = _git(folder, "log", "--no-merges", "--format=%h%x00%B%x01", f"{since}..HEAD")
    for entry in filter(None, (each.strip() for each in log.split("\x01"))):
        name, _, message = entry.partition("\x00")
        found += _of_message(f"commit {name}", message, rules)
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD").strip()
    if BRANCH in rules and branch not in _TRUNKS and not _BRANCH.fullmatch(branch):
        found.append(at(BRANCH, f"branch {branch}", message=f"the branch is called {branch}"))
    return found


def lint_message(file: Path, rules: Sequence[Rule]) -> list[Finding]:
    """What is wrong with the message of a commit that is about to be made."""
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UnsupportedError(
            f"--message {file} cannot be read ({error.strerror}): name the file that git gives to "
            "a commit-msg hook."
        ) from error
    kept = [line for line in content.splitlines() if not line.startswith("#")]
    return list(_of_message(str(file), "\n".join(kept), rules))


def _of_message(place: str, message: str, rules: Sequence[Rule]) -> Iterator[Finding]:
    first = message.strip().partition("\n")[0]
    bare = re.sub(r"^(fixup|squash|amend)! ", "", first)
    if SUBJECT in rules and not bare.startswith(tuple(f"{each} " for each in PREFIXES)):
        yield at(SUBJECT, place, message=f"{first!r} has no prefix")
    if SIGNATURE in rules and not _SIGNED.search(message):
        yield at(SIGNATURE, place, message=f"{first!r} is not signed off")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder if folder.is_dir() else folder.parent), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise UnsupportedError("--since asks git, which is not installed: leave it out.") from error
    if done.returncode:
        raise UnsupportedError(
            f"git {arguments[0]} in {folder}: {done.stderr.strip()}. --since wants a repository "
            "and a commit of it, such as --since origin/main."
        )
    return done.stdout
