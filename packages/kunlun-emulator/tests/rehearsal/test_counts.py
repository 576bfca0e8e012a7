# SPDX-License-Identifier: Apache-2.0
"""Counts grow, and a snapshot of them does not."""

from vllm_kunlun.emulator.rehearsal import counts
from vllm_kunlun.emulator.rehearsal.counts import Asked


def test_two_snapshots_differ_by_what_was_asked_between_them():
    before = counts.snapshot()
    counts.add("vendor", "f")
    counts.add("launch", "g", in_graph=True)
    counts.add("launch", "g", in_graph=True)
    assert counts.snapshot() - before == {
        Asked("vendor", "f", False): 1,
        Asked("launch", "g", True): 2,
    }
    assert before[Asked("launch", "g", True)] == 0
