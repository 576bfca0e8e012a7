# SPDX-License-Identifier: Apache-2.0
"""Every damaged checkpoint through both commands: they end with the cause in their last lines."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import pytest
from support import characters, damage
from support.imported import commands

LAST = 5
OPTIONS = ("--max-model-len", "256", "--max-num-seqs", "4", "--enforce-eager", "--port", "0")


@pytest.fixture(scope="module")
def run() -> Iterator:
    taken: dict[str, float] = {}
    with commands() as start:

        def timed(name, log, argv):
            ended = start(log, argv)
            taken[name] = ended.seconds
            return ended

        yield timed
    slowest = max(taken, key=taken.__getitem__)
    print(f"{len(taken)} starts: {median(taken.values()):.1f} s, {slowest} {taken[slowest]:.1f} s")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["vllm", "vllm-kunlun"])
@pytest.mark.parametrize("name", damage.CASES)
def test_the_cause_comes_last(name, command, source, run, tmp_path):
    case = damage.CASES[name]
    folder = tmp_path / "model"
    damage.copy(source(case.source), folder, characters.add)
    case.change(folder)
    ended = run(f"{command} {name}", tmp_path / "log", [command, "serve", str(folder), *OPTIONS])
    last = "\n".join(ended.lines[-LAST:])
    print(f"{ended.seconds:.1f} s:\n{last}")
    assert ended.code in (1, 2)
    for word in case.words:
        assert word in last
