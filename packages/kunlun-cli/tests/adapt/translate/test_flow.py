# SPDX-License-Identifier: Apache-2.0
"""Statements that a value depends on, and no others."""

from __future__ import annotations

import ast

import pytest

from vllm_kunlun.cli.adapt.translate.flow import Flow, needed
from vllm_kunlun.cli.adapt.translate.reading import Reading


def statements(text):
    return ast.parse(text).body


def test_what_the_value_depends_on():
    found = needed(statements("a = 1\nb = 2\nif b:\n    c = a\nd = b\na = 3\nc = c + 1"), {"c"})
    assert [ast.unparse(each).splitlines()[0] for each in found] == [
        "a = 1", "b = 2", "if b:", "c = c + 1",
    ]  # fmt: skip


@pytest.fixture
def flow(parts):
    return Flow(Reading(parts("granite").layer), {"x"}, {"position_ids": "positions"})


def test_dropout_and_what_is_kept_for_the_caller_go(flow):
    text = "y = nn.functional.dropout(x, p=0.1) + x\nif output_attentions:\n    y += (z,)"
    assert flow.lines(statements(text)) == ["y = x + x"]
    assert flow.todo == []


def test_attributes_of_the_configuration_are_made_at_the_start(flow):
    assert flow.lines(statements("y = x * self.residual_multiplier")) == [
        "y = x * self.residual_multiplier"
    ]
    assert flow.made == {"residual_multiplier": "config.residual_multiplier"}


def test_a_number_in_the_precision_of_the_model_is_made_once(flow):
    text = "n = torch.tensor(self.config.hidden_size ** 0.5, dtype=x.dtype)\ny = x * n"
    assert flow.lines(statements(text)) == ["n = self.n", "y = x * n"]
    assert flow.made["n"].startswith("torch.tensor(config.hidden_size ** 0.5, dtype=")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("y = self.gate(x)", "self.gate is called"),
        ("y = unheard_of(x)", "unheard_of is not known here"),
        ("y = x[:, 1:]", "a part of a tensor"),
        ("x.clamp_(0)", "no assignment"),
    ],
)
def test_what_is_not_understood_is_marked(flow, text, said):
    (line,) = flow.lines(statements(text))
    assert line == f"# TODO(adapt): {said}: {text}"
    assert flow.todo == [f"{said}: {text}"]
