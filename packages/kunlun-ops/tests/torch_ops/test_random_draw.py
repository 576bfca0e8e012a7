# SPDX-License-Identifier: Apache-2.0
"""Draws by the exponential race: against exact distributions, and at the ends of the noise."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops.torch_ops import random_draw

DRAWS = 20_000
SIGNIFICANCE = 1e-4
"""Probability at which a right draw would fail; the draws are seeded, so it never flickers."""
STEP = 2.0**-24


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_tail(count: int, each: float) -> torch.Tensor:
    """One likely token amid ``count`` that have the probability ``each``."""
    probs = torch.full((count + 1,), each, dtype=torch.float64)
    probs[count // 2] = 1 - count * each
    return probs


DISTRIBUTIONS = {
    "coin": torch.tensor([0.5, 0.5], dtype=torch.float64),
    "biased": torch.tensor([0.001, 0.999], dtype=torch.float64),
    "ten-to-one": torch.tensor([0.9, 0.09, 0.009, 0.0009, 0.0001], dtype=torch.float64),
    "even": torch.full((1000,), 1e-3, dtype=torch.float64),
    "steep": (-0.05 * torch.arange(300.0, dtype=torch.float64)).softmax(-1),
    "tail-of-1e-6": with_tail(2000, 1e-6),
    "with-zeros": torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0], dtype=torch.float64),
    "one": torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64),
    "only": torch.tensor([1.0], dtype=torch.float64),
}


def p_value(ids: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's chi-square, with tokens of fewer than 10 expected draws counted as one."""
    counts = torch.bincount(ids, minlength=len(expected)).double()
    wanted = expected * len(ids)
    assert int(counts[wanted == 0].sum()) == 0, "a token of no probability was drawn"
    large = wanted >= 10
    observed = torch.cat([counts[large], counts[~large].sum().view(1)])
    wanted = torch.cat([wanted[large], wanted[~large].sum().view(1)])
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    if len(wanted) == 1:
        return 1.0
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    freedom = torch.tensor((len(wanted) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


# -------------------------------------------------------------------------- distribution


@pytest.mark.parametrize("scale", [1.0, 1e-3], ids=["normalised", "weights"])
@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_draws_follow_the_distribution(name: str, scale: float) -> None:
    torch.manual_seed(5)
    probs = DISTRIBUTIONS[name]
    ids = random_draw.draw((probs * scale).float().repeat(DRAWS, 1), {})
    assert p_value(ids, probs) > SIGNIFICANCE


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_seeded_draws_follow_the_distribution(name: str) -> None:
    probs, one = DISTRIBUTIONS[name], generator(3)
    row = probs.float()
    ids = [random_draw.draw(row.repeat(1, 1), {0: one}) for _ in range(4_000)]
    assert p_value(torch.cat(ids), probs) > SIGNIFICANCE


def coarse(rows: int, tokens: int, step: float) -> torch.Tensor:
    """Uniform numbers ``step`` apart, which shows with few draws what torch's hide well."""
    return torch.randint(round(1 / step), (rows, tokens), generator=generator(8)) * step


@pytest.mark.parametrize("each", [1e-3, 2.0**-12, 1e-4, 3e-5])
def test_tokens_rarer_than_the_noise_is_fine_are_drawn_as_often_as_they_should(each: float) -> None:
    step, probs = 2.0**-12, with_tail(round(0.04 / each), each)
    shares = []
    for fill in (True, False):
        tails = 0
        for part in coarse(DRAWS, len(probs), step).split(2_000):
            noise = random_draw.exponential(part, step) if fill else part.log().neg()
            tails += int(((probs.float() / noise).argmax(-1) != probs.argmax()).sum())
        expected = DRAWS * 0.04
        shares.append((tails - expected) / (expected * 0.96) ** 0.5)
    filled, bare = shares
    assert abs(filled) < 4, "standard deviations from the expected count"
    assert each > 5e-4 or bare < -6, "the logarithm alone is what this test must see through"


def test_between_two_steps_the_neighbour_decides() -> None:
    """At the top of the uniform numbers the noise is ``(j - neighbour) * step``."""
    neighbours = torch.tensor([0.0, 0.25, 0.5, 0.75])
    for j in (1, 2, 3):
        uniform = torch.stack([neighbours, torch.full((4,), 1 - j * STEP)], 1)
        noise = random_draw.exponential(uniform)[:, 1].double()
        torch.testing.assert_close(noise, (j - neighbours.double()) * STEP, rtol=2e-7, atol=0)


# -------------------------------------------------------------------------------- the ends


def test_noise_is_positive_and_finite_for_every_uniform_number() -> None:
    ends = torch.tensor([0.0, 2.0**-149, 2.0**-126, STEP, 0.5, 1 - 2 * STEP, 1 - STEP, 1.0])
    uniform = torch.cartesian_prod(ends, ends)  # each number beside each other one
    noise = random_draw.exponential(uniform)
    assert (noise > 0).all() and noise.isfinite().all()
    exact = -uniform.double().log() - STEP * uniform.double().flip(1)
    inside = (uniform > 0) & (uniform < 1)
    torch.testing.assert_close(noise.double()[inside], exact[inside], rtol=3e-7, atol=STEP**2)


@pytest.mark.parametrize("end", [0.0, 1 - STEP, 1.0])
def test_a_token_of_no_weight_is_never_drawn_at_either_end(
    end: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, generator=None: self.fill_(end))
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1e-30], [0.0, 0.5, 0.5]])
    assert random_draw.draw(weights, {0: generator(1)}).tolist() == [1, 2, 1]


# ----------------------------------------------------------------------------------- seeds


def test_a_seeded_row_depends_on_no_other() -> None:
    weights = torch.rand(6, 50, generator=generator(2))
    alone = random_draw.draw(weights[3:4].clone(), {0: generator(7)})
    for others in ({}, {0: generator(1), 5: generator(7)}, {r: generator(r) for r in range(6)}):
        batch = weights.clone()
        batch[0] = torch.rand(50)
        assert random_draw.draw(batch, {**others, 3: generator(7)})[3] == alone[0]


def test_a_seeded_row_takes_one_number_a_token() -> None:
    used, counted = generator(7), generator(7)
    random_draw.draw(torch.rand(2, 50), {1: used})
    torch.empty(50).uniform_(generator=counted)
    assert torch.equal(used.get_state(), counted.get_state())


def test_a_fully_seeded_batch_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    random_draw.draw(torch.ones(2, 5), {0: generator(1), 1: generator(2)})
    assert torch.equal(torch.get_rng_state(), before)
