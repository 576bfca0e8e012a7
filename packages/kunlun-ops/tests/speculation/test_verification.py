# SPDX-License-Identifier: Apache-2.0
"""Drafts verified: against a loop in float64, and against the target's distribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pytest
import torch

from vllm_kunlun.ops.speculation import verification

VOCABULARY = 11


SIGNIFICANCE = 1e-4
"""Probability at which a right sampler would fail; the draws are seeded, so it never flickers."""


BATCHES = {
    "one": [3],
    "even": [2, 2, 2],
    "mixed": [3, 0, 1, 4, 0, 2],
    "none-at-the-ends": [0, 0, 2, 0],
    "one-each": [1, 1, 1, 1],
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass
class Case:
    """A batch of drafts with the probabilities behind them."""

    num_drafts: list[int]
    with_probs: bool
    seed: int = 0
    draft_ids: torch.Tensor = field(init=False)
    draft_probs: torch.Tensor | None = field(init=False)
    target_probs: torch.Tensor = field(init=False)
    bonus_ids: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        random, total = generator(self.seed), sum(self.num_drafts)
        # Small vocabulary, related distributions: drafts are accepted and rejected about evenly.
        draft = torch.randn(total, VOCABULARY, generator=random)
        target = 2 * (draft + torch.randn(total, VOCABULARY, generator=random))
        self.target_probs = target.softmax(-1)
        self.draft_probs = draft.softmax(-1) if self.with_probs else None
        proposal = draft.softmax(-1) if self.with_probs else self.target_probs
        drawn = torch.multinomial(proposal, 1, generator=random) if total else torch.empty(0, 1)
        # Half of them the target's best token, so that greedy requests accept some too.
        best = self.target_probs.argmax(-1)
        lucky = torch.rand(total, generator=random) < 0.5
        self.draft_ids = torch.where(lucky, best, drawn.view(-1)).to(torch.int32)
        self.bonus_ids = torch.randint(
            VOCABULARY, (len(self.num_drafts), 1), generator=random, dtype=torch.int32
        )

    @property
    def ends(self) -> torch.Tensor:
        return torch.tensor(list(accumulate(self.num_drafts)), dtype=torch.int32)

    def verify(
        self, greedy: torch.Tensor | bool, generators: dict[int, torch.Generator]
    ) -> list[list[int]]:
        found = verification.verify(
            self.draft_ids,
            self.num_drafts,
            self.ends,
            self.draft_probs,
            self.target_probs,
            self.bonus_ids,
            greedy,
            generators,
        )
        assert found.dtype == torch.int32
        assert found.shape == (len(self.num_drafts), max(self.num_drafts) + 1)
        return found.tolist()

    def by_the_book(
        self, greedy: list[bool], generators: dict[int, torch.Generator]
    ) -> list[list[int]]:
        """The algorithm of the paper, one request and one draft at a time, in float64.

        Random numbers are drawn as documented: uniform ones for the drafts, then the race.
        """
        answer, first = [], 0
        for request, count in enumerate(self.num_drafts):
            tokens: list[int] = []
            if count and not greedy[request]:
                random = generators[request]
                uniform = torch.rand(count, dtype=torch.float64, generator=random).tolist()
                race = torch.empty(VOCABULARY).uniform_(generator=random).double()
                race = race.log().neg().tolist()
            for place in range(count):
                draft = int(self.draft_ids[first + place])
                target = self.target_probs[first + place].tolist()
                if self.draft_probs is None:
                    proposal = [float(token == draft) for token in range(VOCABULARY)]
                else:
                    proposal = self.draft_probs[first + place].tolist()
                if greedy[request]:
                    best = target.index(max(target))
                    tokens.append(best)
                    if best != draft:
                        break
                elif uniform[place] < target[draft] / proposal[draft]:
                    tokens.append(draft)
                else:
                    scores = [
                        max(target[token] - proposal[token], 0.0) / race[token]
                        for token in range(VOCABULARY)
                    ]
                    tokens.append(scores.index(max(scores)))
                    break
            else:
                tokens.append(int(self.bonus_ids[request]))
            rejected = max(self.num_drafts) + 1 - len(tokens)
            answer.append(tokens + [verification.REJECTED] * rejected)
            first += count
        return answer


def seeded(case: Case) -> dict[int, torch.Generator]:
    return {request: generator(100 + request) for request in range(len(case.num_drafts))}


@pytest.mark.parametrize("with_probs", [False, True], ids=["chosen", "drawn"])
@pytest.mark.parametrize("batch", sorted(BATCHES))
@pytest.mark.parametrize("kind", ["greedy", "random", "both"])
def test_equals_the_algorithm(kind: str, batch: str, with_probs: bool) -> None:
    lengths = set()
    for seed in range(40):
        case = Case(BATCHES[batch], with_probs, seed)
        requests = len(case.num_drafts)
        greedy = [kind == "greedy" or (kind == "both" and i % 2 == 0) for i in range(requests)]
        given = torch.tensor(greedy) if kind == "both" else kind == "greedy"
        found = case.verify(given, seeded(case))
        assert found == case.by_the_book(greedy, seeded(case))
        lengths |= {sum(token >= 0 for token in row) for row in found}
    assert len(lengths) > 1, "drafts of one outcome show nothing"


def test_a_tensor_that_says_the_same_for_all_is_the_answer_for_all() -> None:
    case = Case(BATCHES["mixed"], with_probs=False)
    for greedy in (True, False):
        rows = torch.full((len(case.num_drafts),), greedy)
        assert case.verify(rows, seeded(case)) == case.verify(greedy, seeded(case))


def test_worked_by_hand() -> None:
    """Best tokens 2 and 0 and 1; drafts [2, 1], [], [1]: one of two, the bonus alone, all."""
    found = verification.verify(
        torch.tensor([2, 1, 1]),
        [2, 0, 1],
        torch.tensor([2, 2, 3]),
        None,
        torch.tensor([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3]]),
        torch.tensor([[10], [11], [12]]),
        True,
        {},
    )
    assert found.tolist() == [[2, 0, -1], [11, -1, -1], [1, 12, -1]]


@pytest.mark.parametrize("with_probs", [False, True], ids=["chosen", "drawn"])
def test_a_draft_equal_to_the_target_is_always_accepted(with_probs: bool) -> None:
    case = Case([2, 3, 0, 1], with_probs)
    if with_probs:
        case.draft_probs = case.target_probs.clone()
    else:
        case.target_probs = torch.nn.functional.one_hot(case.draft_ids.long(), VOCABULARY).float()
    first = [0, 2, 5, 5]
    for _ in range(200):
        for request, row in enumerate(case.verify(False, {})):
            count = case.num_drafts[request]
            drafts = case.draft_ids[first[request] : first[request] + count].tolist()
            assert row[: count + 1] == [*drafts, int(case.bonus_ids[request])]


@pytest.mark.parametrize("with_probs", [False, True], ids=["chosen", "drawn"])
def test_an_impossible_draft_is_never_accepted_and_never_drawn(with_probs: bool) -> None:
    case = Case([2, 3, 0, 1], with_probs)
    case.target_probs.scatter_(1, case.draft_ids.long().unsqueeze(1), 0.0)
    first = [0, 2, 5, 5]
    for _ in range(200):
        for request, row in enumerate(case.verify(False, {})):
            if request == 2:
                assert row[0] == int(case.bonus_ids[2])
            else:
                assert case.target_probs[first[request], row[0]] > 0
            assert set(row[1:]) == {verification.REJECTED}


def test_a_draft_of_no_probability_is_rejected() -> None:
    case = Case([1], with_probs=True)
    assert case.draft_probs is not None
    case.draft_probs[0, case.draft_ids[0]] = 0.0
    for _ in range(50):
        assert case.verify(False, {})[0][1] == verification.REJECTED


def test_equal_up_to_rounding_still_draws_from_the_target() -> None:
    """Rejected by rounding with nothing left of ``p - q``: what is drawn has a probability."""
    target = torch.tensor([[0.0, 0.25, 0.75]])
    token = verification.recover(
        torch.tensor([1]), target.clone(), target, torch.tensor([0]), [1], {}
    )
    assert target[0, token[0]] > 0


def test_no_request_has_drafts() -> None:
    case = Case([0, 0], with_probs=False)
    assert case.verify(False, {}) == case.bonus_ids.tolist()


@pytest.mark.parametrize("with_probs", [False, True], ids=["chosen", "drawn"])
def test_a_seeded_request_depends_on_no_other(with_probs: bool) -> None:
    case = Case([2, 3, 1], with_probs)
    alone = Case([3], with_probs)
    alone.draft_ids, alone.target_probs = case.draft_ids[2:5], case.target_probs[2:5]
    alone.draft_probs = None if case.draft_probs is None else case.draft_probs[2:5]
    alone.bonus_ids = case.bonus_ids[1:2]
    seen = set()
    for seed in range(30):
        row = case.verify(False, {1: generator(seed)})[1]
        assert row == alone.verify(False, {0: generator(seed)})[0]
        seen.add(tuple(row))
    assert len(seen) > 1


def test_seeded_requests_leave_the_others_random() -> None:
    case = Case([3, 3, 3], with_probs=False)
    drawn = [case.verify(False, {1: generator(4)}) for _ in range(30)]
    for request in range(3):
        assert (len({tuple(each[request]) for each in drawn}) == 1) == (request == 1)


def test_a_request_without_drafts_keeps_its_random_state() -> None:
    case = Case([2, 0], with_probs=False)
    random = generator(9)
    before = random.get_state()
    case.verify(False, {1: random})
    assert torch.equal(random.get_state(), before)


@pytest.mark.parametrize("with_probs", [False, True], ids=["chosen", "drawn"])
def test_nothing_asks_for_what_a_card_does_on_the_host(
    with_probs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("exponential_ runs on the host")

    monkeypatch.setattr(torch.Tensor, "exponential_", refuse)
    Case([2, 3, 0], with_probs).verify(False, {1: generator(4)})


def p_value(ids: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's chi-square: how likely counts at least this far from ``expected`` are."""
    counts = torch.bincount(ids, minlength=len(expected)).double()
    wanted = expected.double() * len(ids)
    assert (wanted >= 5).all(), "too few draws for the approximation"
    statistic = ((counts - wanted) ** 2 / wanted).sum()
    freedom = torch.tensor((len(expected) - 1) / 2.0, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


DRAWS = 40_000


def verified(
    draft: torch.Tensor, target: torch.Tensor, *, with_probs: bool, chosen: int = 3
) -> torch.Tensor:
    """``DRAWS`` requests with the same two drafts' distributions ``[2, V]``, each on its own."""
    if with_probs:
        drafts = torch.multinomial(draft, DRAWS, replacement=True).T.reshape(-1)
        probs = draft.repeat(DRAWS, 1)
    else:
        drafts, probs = torch.full((2 * DRAWS,), chosen), None
    bonus = torch.multinomial(target[2], DRAWS, replacement=True)
    return verification.verify(
        drafts.to(torch.int32),
        [2] * DRAWS,
        2 * torch.arange(1, DRAWS + 1),
        probs,
        target[:2].repeat(DRAWS, 1),
        bonus,
        False,
        {},
    ).long()


@pytest.mark.parametrize("with_probs", [False, True], ids=["chosen", "drawn"])
def test_what_comes_out_is_distributed_as_the_target(with_probs: bool) -> None:
    torch.manual_seed(21)
    draft = torch.randn(2, VOCABULARY).softmax(-1)
    target = torch.randn(3, VOCABULARY).softmax(-1)
    ids = verified(draft, target, with_probs=with_probs)
    for place in range(3):
        # Given that the request got so far, whatever the tokens before it.
        reached = ids[:, place]
        reached = reached[reached >= 0]
        assert len(reached) > 1_000
        assert p_value(reached, target[place]) > SIGNIFICANCE
    # How many drafts were accepted is as it must be, too.
    overlap = torch.minimum(draft, target[:2]).sum(-1) if with_probs else target[:2, 3]
    accepted = (ids >= 0).sum(1) - 1
    shares = torch.stack([1 - overlap[0], overlap[0] * (1 - overlap[1]), overlap.prod()])
    assert p_value(accepted, shares) > SIGNIFICANCE


def test_the_chi_square_test_can_fail() -> None:
    torch.manual_seed(21)
    draft = torch.randn(2, VOCABULARY).softmax(-1)
    target = torch.randn(3, VOCABULARY).softmax(-1)
    ids = verified(draft, target, with_probs=True)
    assert p_value(ids[:, 0], draft[0]) < SIGNIFICANCE
    assert p_value(ids[:, 0], (1.2 * target[0].log()).softmax(-1)) < SIGNIFICANCE
