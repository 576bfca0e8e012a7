# SPDX-License-Identifier: Apache-2.0
"""The release workflows: which tags they take, what they may do, and that their shell is shell."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatchcase

import pytest
import yaml
from members import ROOT, read_all
from releasing.versions import tag

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE, MAKE = (
    yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    for name in ("release.yml", "make-wheel.yml")
)


def steps(workflow) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", ())]


def test_the_tag_of_each_wheel_starts_a_release():
    # YAML 1.1 reads the key `on` as true.
    (pattern,) = RELEASE[True]["push"]["tags"]
    for wheel in read_all():
        for version in ("0.2.0", "1.0.0rc1"):
            assert fnmatchcase(tag(wheel.name, version), pattern)
    assert fnmatchcase(tag("vllm-kunlun", "0.15.1.post2"), pattern)
    assert not fnmatchcase("v0.2.0", pattern) and not fnmatchcase("kunlun-quant-vnext", pattern)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_action_moves_and_no_secret_is_read(file):
    text = file.read_text()
    for used in re.findall(r"uses: (\S+)", text):
        assert used.startswith("./") or re.search(r"@[0-9a-f]{40}$", used), used
    assert "secrets." not in text and "password" not in text


def test_only_what_publishes_may_ask_for_an_identity_of_pypi():
    jobs = RELEASE["jobs"]
    assert jobs["make"]["permissions"] == {"contents": "read"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] == "pypi"
    assert set(jobs["publish"]["needs"]) == {"make", "attest"}
    assert RELEASE["permissions"] == MAKE["permissions"] == {}
    assert not any("run" in step for step in jobs["publish"]["steps"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shell_is_shell_and_takes_nothing_from_a_template(file):
    for step in steps(yaml.safe_load(file.read_text())):
        if "run" in step:
            assert "${{" not in step["run"]
            subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)


def test_the_workflow_runs_a_session_that_there_is():
    (command,) = [step["run"] for step in steps(MAKE) if "run" in step]
    (session,) = re.findall(r"nox -s (\w+)", command)
    assert f"\ndef {session}(session: nox.Session)" in (ROOT / "noxfile.py").read_text()
