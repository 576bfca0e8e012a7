# SPDX-License-Identifier: Apache-2.0
"""The sampler that takes the place of vLLM's: against vLLM's own, and against the distribution."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vllm_kunlun.ops.vllm_modules import topk_topp_sampler as ours
from vllm_kunlun.platforms.ledger import import_hook

vllms = import_hook.import_original("vllm.v1.sample.ops.topk_topp_sampler")

VOCABULARY = 200
DRAWS = 20_000
SIGNIFICANCE = 1e-4
"""Probability at which a right sampler would fail; the draws are seeded, so it never flickers."""

FILTERS: dict[str, tuple[int | None, float | None]] = {
    "none": (None, None),
    "top-k": (5, None),
    "top-p": (None, 0.7),
    "both": (12, 0.8),
    "all-of-k": (VOCABULARY, None),
    "all-of-p": (None, 1.0),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def limits(name: str, rows: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    k, p = FILTERS[name]
    return (
        None if k is None else torch.full((rows,), k, dtype=torch.int32),
        None if p is None else torch.full((rows,), p, dtype=torch.float32),
    )


def draw(logits: torch.Tensor, generators: dict[int, torch.Generator], filters: str) -> list[int]:
    ids, returned = ours.TopKTopPSampler()(
        logits.clone(), generators, *limits(filters, len(logits))
    )
    assert returned is None
    assert ids.shape == (len(logits),)
    return ids.tolist()


@pytest.fixture
def logits() -> torch.Tensor:
    return 2 * torch.randn(8, VOCABULARY, generator=generator(3))


# --------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("filters", sorted(FILTERS))
def test_a_seeded_row_draws_by_the_formula_from_its_own_generator(
    filters: str, logits: torch.Tensor
) -> None:
    seeds = {1: 11, 4: 7, 6: 11}
    generators = {row: generator(seed) for row, seed in seeds.items()}
    expected = {row: generator(seed) for row, seed in seeds.items()}
    for step in range(20):
        drawn = draw(logits + step, generators, filters)
        for row in seeds:
            noise = torch.empty(VOCABULARY).uniform_(generator=expected[row]).double().log().neg()
            want = (filtered(logits[row] + step, *FILTERS[filters]) / noise).argmax()
            assert drawn[row] == want.item()


@pytest.mark.parametrize("filters", sorted(FILTERS))
def test_a_seeded_row_depends_on_neither_batch_nor_place(
    filters: str, logits: torch.Tensor
) -> None:
    row = logits[2]
    alone = draw(row.unsqueeze(0), {0: generator(5)}, filters)[0]
    for place in (0, 3, 7):
        batch = logits.clone()
        batch[place] = row
        assert draw(batch, {place: generator(5)}, filters)[place] == alone
        everyone = {other: generator(5 if other == place else other) for other in range(8)}
        assert draw(batch, everyone, filters)[place] == alone


@pytest.mark.parametrize("filters", sorted(FILTERS))
def test_one_global_seed_gives_one_outcome(filters: str, logits: torch.Tensor) -> None:
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outcomes.append([draw(logits, {}, filters) for _ in range(5)])
    assert outcomes[0] == outcomes[1] != outcomes[2]


def test_seeded_rows_leave_the_others_random(logits: torch.Tensor) -> None:
    torch.manual_seed(0)
    drawn = [draw(logits, {3: generator(9)}, "both") for _ in range(30)]
    for row in range(8):
        assert (len({each[row] for each in drawn}) == 1) == (row == 3)


@pytest.mark.parametrize("p", [None, 0.8])
def test_k_of_int64_goes_to_the_vendor_as_int32(p: float | None, logits: torch.Tensor) -> None:
    """vLLM's own warm-up of the sampler passes int64."""
    limit = None if p is None else torch.full((8,), p)
    outcomes = []
    for dtype in (torch.int64, torch.int32):
        torch.manual_seed(4)
        outcomes.append(ours._draw(logits, torch.full((8,), 5, dtype=dtype), limit).tolist())
    assert outcomes[0] == outcomes[1]


# -------------------------------------------------------------------------- distribution


def p_value(ids: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's chi-square: how likely counts at least this far from ``expected`` are.

    Tokens of small expected count are pooled, as the test's approximation needs.
    """
    counts = torch.bincount(ids, minlength=len(expected)).double()
    wanted = expected.double() * len(ids)
    assert int(counts[wanted == 0].sum()) == 0, "a token outside the filter was drawn"
    large = wanted >= 10
    observed = torch.cat([counts[large], counts[~large].sum().view(1)])
    wanted = torch.cat([wanted[large], wanted[~large].sum().view(1)])
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    freedom = torch.tensor((len(wanted) - 1) / 2.0, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


def filtered(row: torch.Tensor, k: int | None, p: float | None) -> torch.Tensor:
    """The distribution that the request asked for, by its definition."""
    probs = row.double().softmax(-1)
    order = probs.argsort(descending=True)
    kept = order[:k]
    if p is not None:
        share = probs[kept] / probs[kept].sum()
        before = share.cumsum(0) - share
        kept = kept[before < p]
    result = torch.zeros_like(probs)
    result[kept] = probs[kept] / probs[kept].sum()
    return result


@pytest.mark.parametrize("filters", sorted(FILTERS))
def test_draws_follow_the_filtered_distribution(filters: str, logits: torch.Tensor) -> None:
    torch.manual_seed(17)
    row = logits[0]
    ids = torch.tensor(draw(row.expand(DRAWS, -1), {}, filters))
    assert p_value(ids, filtered(row, *FILTERS[filters])) > SIGNIFICANCE


def test_seeded_draws_follow_the_filtered_distribution(logits: torch.Tensor) -> None:
    row, one = logits[0], generator(23)
    sampler = ours.TopKTopPSampler()
    ids = [int(sampler(row.repeat(2, 1), {1: one}, *limits("both", 2))[0][1]) for _ in range(4_000)]
    assert p_value(torch.tensor(ids), filtered(row, *FILTERS["both"])) > SIGNIFICANCE


def test_the_chi_square_test_can_fail(logits: torch.Tensor) -> None:
    torch.manual_seed(17)
    ids = torch.tensor(draw(logits[0].expand(DRAWS, -1), {}, "top-p"))
    wrong = filtered(logits[0] * 1.2, None, 0.7)
    kept = filtered(logits[0], None, 0.7) > 0
    wrong = torch.where(kept, wrong + 1e-3, 0.0)
    assert p_value(ids, wrong / wrong.sum()) < SIGNIFICANCE


@pytest.mark.parametrize("mode", ["raw_logprobs", "processed_logprobs"])
@pytest.mark.parametrize("seeded", [0, 3, 8])
@pytest.mark.parametrize("filters", sorted(FILTERS))
def test_no_draw_asks_for_what_a_card_does_on_the_host(
    filters: str, seeded: int, mode: str, logits: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("exponential_ runs on the host")

    monkeypatch.setattr(torch.Tensor, "exponential_", refuse)
    generators = {row: generator(row) for row in range(seeded)}
    ids, _ = ours.TopKTopPSampler(mode)(logits.clone(), generators, *limits(filters, 8))
    assert ids.shape == (8,)


# ------------------------------------------------------------------------------- extremes


@pytest.mark.parametrize("seeded", [False, True])
def test_filters_that_leave_one_token_are_greedy(seeded: bool, logits: torch.Tensor) -> None:
    generators = {row: generator(row) for row in range(0, 8, 2)} if seeded else {}
    best = logits.argmax(-1).tolist()
    sampler = ours.TopKTopPSampler()
    one = torch.ones(8, dtype=torch.int32)
    tiny = torch.full((8,), 1e-6)
    for k, p in ((one, None), (None, tiny), (one, tiny), (one, torch.ones(8))):
        ids, _ = sampler(logits.clone(), generators, k, p)
        assert ids.tolist() == best


def test_each_row_has_its_own_limits(logits: torch.Tensor) -> None:
    k = torch.tensor([1, 3, VOCABULARY, 2, 5, 1, 50, 9], dtype=torch.int32)
    p = torch.tensor([1.0, 0.5, 0.1, 1.0, 0.9, 0.3, 1.0, 0.8])
    allowed = [filtered(logits[r], int(k[r]), float(p[r])) > 0 for r in range(8)]
    sampler = ours.TopKTopPSampler()
    for _ in range(200):
        ids, _ = sampler(logits.clone(), {2: generator(1)}, k, p)
        for row, token in enumerate(ids.tolist()):
            assert allowed[row][token]


def test_masked_tokens_are_never_drawn(logits: torch.Tensor) -> None:
    logits[:, 5:] = float("-inf")  # a grammar leaves five tokens
    for filters in FILTERS:
        for _ in range(50):
            assert max(draw(logits, {1: generator(2)}, filters)) < 5


# ------------------------------------------------------------------- what else is asked of it


@pytest.mark.parametrize("mode", ["processed_logits", "processed_logprobs"])
@pytest.mark.parametrize("filters", sorted(FILTERS))
def test_processed_values_are_what_the_filters_leave(
    mode: str, filters: str, logits: torch.Tensor
) -> None:
    generators = {row: generator(row) for row in range(8)}
    sampler = ours.TopKTopPSampler(mode)
    ids, values = sampler(logits.clone(), generators, *limits(filters, 8))
    wanted = torch.stack([filtered(row, *FILTERS[filters]) for row in logits])
    assert values.softmax(-1).double().allclose(wanted, atol=1e-6)
    assert torch.equal(values.isinf(), wanted == 0)
    if mode == "processed_logprobs":
        torch.testing.assert_close(values.double(), wanted.log())
    assert ids.tolist() == draw(logits, {row: generator(row) for row in range(8)}, filters)


@pytest.mark.parametrize("mode", ["raw_logits", "raw_logprobs"])
def test_raw_modes_return_no_values(mode: str, logits: torch.Tensor) -> None:
    assert ours.TopKTopPSampler(mode)(logits, {}, None, None)[1] is None


def test_noise_in_float64_is_vllms_own(
    logits: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.33 asks for it by one more argument of the layer and of the function that draws."""
    asked: list[object] = []

    def drawn(probs: torch.Tensor, _generators: object, in_float64: bool) -> torch.Tensor:
        asked.append(in_float64)
        return probs.argmax(-1)

    monkeypatch.setattr(ours, "_drawn_by_vllm", drawn)
    probs = logits.softmax(-1)
    ours.random_sample(probs.clone(), {})
    assert asked == []
    assert torch.equal(ours.random_sample(probs, {}, True), probs.argmax(-1))
    assert asked == [True]


def test_every_other_name_of_the_module_is_vllms() -> None:
    names = {
        "apply_top_k_top_p",
        "apply_top_k_only",
        "flashinfer_sample",
        "compiled_random_sample",  # until 0.16
        "empty_exponential_noise_like",  # of 0.33
    }
    found = names & vars(vllms).keys()
    assert len(found) == len(names) - 1
    for name in found:
        assert getattr(ours, name) is getattr(vllms, name)
    assert issubclass(ours.TopKTopPSampler, vllms.TopKTopPSampler)
    with pytest.raises(AttributeError, match="no_such_name"):
        ours.no_such_name  # noqa: B018


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_of_no_numbers_draws_token_0_and_leaves_the_others(
    value: float, logits: torch.Tensor
) -> None:
    """``argmax`` of such a row, with which vLLM draws, is 0."""
    k = torch.full((len(logits),), 1, dtype=torch.int32)
    p = torch.full((len(logits),), 0.9)
    best = logits.argmax(dim=-1)
    lost = logits.clone()
    lost[1, 3] = value
    assert lost[1].softmax(dim=-1).argmax() == 0
    best[1] = 0
    sampler = ours.TopKTopPSampler()
    for filters in ((k, p), (k, None)):
        ids, _ = sampler(lost.clone(), {}, *filters)
        assert ids.tolist() == best.tolist()
    ids, _ = sampler(lost.clone(), {}, None, p)
    assert ids[1] == 0
