# SPDX-License-Identifier: Apache-2.0
"""Sampling on the card's own path: what can be repeated is what the emulated device says."""

from __future__ import annotations

import json

import pytest
import torch
from support import sampled
from support.engine import engine
from support.sampled import REPEATABLE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sampling")]

LOGPROB_TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def folder(plain, tmp_path_factory):
    return plain.submit(sampled.write, tmp_path_factory.mktemp("speaking")).result()


@pytest.fixture(scope="module")
def expected(plain, folder):
    return plain.submit(sampled.answers, folder).result()


@pytest.fixture(scope="module", params=["captured", "eager"])
def came(request, folder):
    return sampled.answers(folder, enforce_eager=request.param == "eager")


@pytest.mark.parametrize("name", REPEATABLE)
def test_a_request_is_answered_as_on_the_emulated_device(name, came, expected):
    assert len(came[name]) == REPEATABLE[name].get("n", 1)
    for ours, theirs in zip(came[name], expected[name], strict=True):
        assert ours.tokens == theirs.tokens
        assert len(ours.logprobs) == len(theirs.logprobs)
        for step, other in zip(ours.logprobs, theirs.logprobs, strict=True):
            assert step == pytest.approx(other, abs=LOGPROB_TOLERANCE)


def test_what_was_asked_for_was_given(came):
    """Otherwise two devices could agree on leaving it out."""
    for name in ("grammar", "drawn by a grammar"):
        assert json.loads(came[name][0].text).keys() == {"a", "b"}
    assert set(came["allowed"][0].tokens) <= set(REPEATABLE["allowed"]["allowed_token_ids"])
    assert 90 not in came["bias"][0].tokens
    assert len(came["not before"][0].tokens) >= 4
    assert all(len(step) >= 5 for step in came["logprobs"][0].logprobs)
    assert len({tuple(each.tokens) for each in came["several"]}) == 3
    drawn = [came[name][0].tokens for name in ("seed", "another seed", "top-k", "top-p", "min-p")]
    assert drawn.count(drawn[0]) == 1


def test_without_a_seed_rows_and_calls_differ_and_follow_the_model(folder):
    """Default sampling of many rows: the draws of each token are as many as its probability says.

    Within five standard deviations, for the likeliest eight tokens.
    """
    rows, calls = 64, 8
    with engine(folder, skip_tokenizer_init=False, enforce_eager=False, max_num_seqs=rows) as llm:
        ((judged,),) = sampled.ask(
            llm, ["Once"], [{"temperature": 0.0, "logprobs": 20, "max_tokens": 1}]
        )
        drawn = [
            tuple(
                answer[0].tokens[0]
                for answer in sampled.ask(llm, ["Once"] * rows, [{"max_tokens": 1}] * rows)
            )
            for _ in range(calls)
        ]
    assert len(set(drawn)) == calls
    counts = torch.tensor(drawn).flatten().bincount(minlength=320)
    likeliest = sorted(judged.logprobs[0].items(), key=lambda item: -item[1])[:8]
    for token, logprob in likeliest:
        probability, total = float(torch.tensor(logprob).exp()), rows * calls
        spread = (total * probability * (1 - probability)) ** 0.5
        assert abs(int(counts[token]) - total * probability) < 5 * spread + 1
