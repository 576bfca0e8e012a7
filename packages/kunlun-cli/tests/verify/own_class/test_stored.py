# SPDX-License-Identifier: Apache-2.0
"""What one process writes, another reads."""

from __future__ import annotations

import torch

from vllm_kunlun.cli.verify.judge import Judge
from vllm_kunlun.cli.verify.own_class import stored
from vllm_kunlun.cli.verify.trace import Event


def test_a_judge_is_read_as_it_was_written(tmp_path):
    rows = torch.randn(3, 4)
    judge = Judge(
        "someone", [[1, 2], [3, 4]], [rows, rows.T], {("layer", "output"): (rows, rows[:1])},
        "lm_head", ["layer"], None, {"layer weight": rows},
    )  # fmt: skip
    stored.write(judge, tmp_path / "judge.safetensors")
    read = stored.read(tmp_path / "judge.safetensors")
    assert (read.name, read.answers, read.head) == ("someone", judge.answers, "lm_head")
    assert (read.layers, read.model) == (["layer"], None)
    torch.testing.assert_close(read.distributions, judge.distributions)
    torch.testing.assert_close(read.expected, judge.expected)
    torch.testing.assert_close(read.acts, judge.acts)


def test_of_parts_of_one_shape_the_sum_stands_first():
    one, two = torch.ones(2, 3), torch.full((2, 3), 5.0)
    events = [
        Event("layer", "output", (one, two)),
        Event("layer", "output", (two, two)),  # a second call
        Event("rotary", "input", (one, torch.ones(2, 1))),
    ]
    found = stored.as_expected(events)
    torch.testing.assert_close(found["layer", "output"], (one + two, one, two))
    assert len(found["rotary", "input"]) == 2
