# SPDX-License-Identifier: Apache-2.0
"""Wrong answers: which of their causes it is follows from the figures."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.check import Check
from vllm_kunlun.cli.symptoms import answers
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.fixture
def loads(monkeypatch):
    monkeypatch.setattr(answers, "weights", lambda model: iter([Check("weights", "ok", "all")]))


def silent(_):
    pass


def statuses(checks):
    return {check.name: check.status for check in checks}


@pytest.mark.usefixtures("loads")
def test_garbage_of_a_wrong_model_is_the_module_that_verify_names(folder, said):
    said(ok=False)
    *_, last = answers.garbage(folder(), silent)
    assert (last.name, last.status, last.detail, last.fix) == (
        "answers", "fail", "DIFFERENT: gate.", "load it"
    )  # fmt: skip


@pytest.mark.usefixtures("loads")
def test_garbage_of_a_right_model_is_how_it_is_asked(folder, said):
    said(ok=True)
    *_, last = answers.garbage(folder(), silent)
    assert (last.name, last.status) == ("prompt", "warn")
    assert "--chat-template" in last.fix
    *_, last = answers.garbage(folder("tokenizer_config.json", chat_template="x"), silent)
    assert "/v1/chat/completions" in last.fix


def test_garbage_of_weights_that_do_not_load_ends_there(folder, monkeypatch):
    def refuse(*_):
        raise UnsupportedError("the files are cut")

    monkeypatch.setattr(answers, "check_files", refuse)
    (only,) = answers.garbage(folder(), silent)
    assert (only.name, only.status, only.detail) == ("weights", "fail", "the files are cut")


@pytest.mark.parametrize(
    ("result", "status", "word"),
    [
        ({"ok": True, "counts": {"ignored": 3}}, "ok", "7 parameters are filled, 3 tensors"),
        ({"missing": [{"parameter": "a.b"}]}, "fail", "1 parameters without a tensor, 0 tensors"),
        ({"tensors": [{"detail": "x"}, {"detail": None}]}, "fail", "1 tensors that do not fit"),
        ({"unread": "it looks at numbers"}, "fail", "it looks at numbers"),
    ],
)
def test_weights_are_counted(folder, monkeypatch, result, status, word):
    whole = {"ok": False, "parameters": 7, "counts": {}, "missing": [], "tensors": [],
             "unread": None} | result  # fmt: skip
    monkeypatch.setattr(answers, "check_files", lambda _: None)
    monkeypatch.setattr(answers, "surveyed", lambda *_: None)
    monkeypatch.setattr(answers, "as_result", lambda _: whole)
    (only,) = answers.weights(folder())
    assert only.status == status
    assert word in only.detail


def test_repeats_of_a_wrong_model_is_the_module(folder, said):
    said(ok=False)
    (only,) = answers.repeats(folder(), silent)
    assert (only.name, only.status) == ("answers", "fail")


def test_repeats_that_transformers_has_too_are_greedy_decodings(folder, said):
    said(ok=True, expected=[7, 8] * 20)
    found = {check.name: check for check in answers.repeats(folder(), silent)}
    assert found["greedy decoding"].status == "warn"
    assert "95%" in found["greedy decoding"].detail
    said(ok=True, expected=range(40))
    assert "greedy decoding" not in statuses(answers.repeats(folder(), silent))


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({}, "warn"),
        ({"do_sample": True}, "ok"),
        ({"do_sample": True, "temperature": 0.0}, "warn"),
        ({"temperature": 0.7}, "warn"),
    ],
)
def test_how_a_request_that_says_nothing_is_sampled(folder, said, values, status):
    said(ok=True)
    found = statuses(answers.repeats(folder("generation_config.json", **values), silent))
    assert found["sampling"] == status


def test_how_much_is_repeated():
    assert answers.repeated([1, 2, 3]) == 0
    assert answers.repeated(range(50)) == 0
    assert answers.repeated([5] * 13) == pytest.approx(0.9)
