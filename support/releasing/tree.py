# SPDX-License-Identifier: Apache-2.0
"""Git: a release is made in a clone, so that one that fails leaves the tree as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["adopt", "changed", "check_clean", "clone", "commit", "git", "tags"]


def git(root: Path, *arguments: str, stdin: str | None = None) -> str:
    """What git prints; its own message goes through, and the error names the command."""
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], input=stdin, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return done.stdout.strip()


def check_clean(root: Path) -> None:
    """Exit with the files that are not committed."""
    found = git(root, "status", "--porcelain")
    if found:
        sys.exit(f"commit or stash first, for a release is made of what is committed:\n{found}")


def tags(root: Path) -> list[str]:
    return git(root, "tag", "--list").splitlines()


def clone(root: Path, folder: Path) -> Path:
    """A clone of what is committed, with the name and address that commits here are made with."""
    quiet = ("-c", "advice.detachedHead=false", "clone", "--quiet")
    git(root, *quiet, str(root.resolve()), str(folder.resolve()))
    for key in ("user.name", "user.email"):
        git(folder, "config", key, git(root, "config", key))
    return folder


def changed(root: Path) -> list[str]:
    """Files that differ from the last commit, new ones too."""
    git(root, "add", "--all")
    return git(root, "diff", "--cached", "--name-only").splitlines()


def commit(root: Path, message: str) -> None:
    """Commit everything, signed off."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--signoff", "--file", "-", stdin=message)


def adopt(root: Path, made: Path, tag: str, message: str) -> None:
    """Move the branch of ``root`` to the commit of ``made``, and set an annotated tag on it."""
    git(root, "fetch", "--quiet", str(made), "HEAD")
    git(root, "merge", "--quiet", "--ff-only", "FETCH_HEAD")
    git(root, "tag", "--annotate", "--cleanup=whitespace", "--file", "-", tag, stdin=message)
