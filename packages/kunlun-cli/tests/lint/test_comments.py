# SPDX-License-Identifier: Apache-2.0
"""A comment silences with a reason, and is a finding itself without one."""

import pytest

PLANTED = "import flash_attn{comment}\n"


def test_a_comment_with_a_reason_silences_its_line_or_the_next(found):
    said = "  # kunlun: ignore[attention] because it is for another device"
    assert found("attention", PLANTED.format(comment=said)) == []
    assert found("attention", f"{said.strip()}\nimport flash_attn\n") == []
    assert len(found("attention", f"{said.strip()}\n\nimport flash_attn\n")) == 1


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("  # kunlun: ignore[attention]", "the comment has no reason"),
        ("  # kunlun: ignore because I say so", "the comment names no rule"),
        ("  # kunlun: ignore[attenton] because of it", "there is no rule attenton"),
    ],
)
def test_what_is_wrong_with_a_comment_is_said_and_it_does_not_silence(found, comment, message):
    content = PLANTED.format(comment=comment)
    assert found("ignore", content) == [(1, message)]
    assert len(found("attention", content)) == 1


def test_one_that_is_not_needed_is_said_if_its_rule_was_tried(tmp_path):
    from vllm_kunlun.cli.lint import registry, run

    content = "import os  # kunlun: ignore[attention] because it was so once\n"
    known = [rule.name for rule in registry.RULES]
    found = run.lint_text(tmp_path / "x.py", content, registry.RULES, known)
    assert [each.message for each in found] == ["there is nothing here that attention would say"]


def test_the_words_in_a_text_are_no_comment(found):
    assert found("ignore", 'TEXT = "# kunlun: ignore[attention]"\n') == []
