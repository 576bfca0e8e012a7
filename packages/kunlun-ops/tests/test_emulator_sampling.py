# SPDX-License-Identifier: Apache-2.0
"""Sampling of the emulator: which tokens may come (exactly) and how often (chi-square)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.ops.emulator import sampling
from vllm_kunlun.ops.emulator.contract import VendorContractError
from vllm_kunlun.ops.emulator.kunlun_ops import (
    top_k_sampling_from_probs,
    top_k_top_p_sampling_from_probs,
    top_p_sampling_from_probs,
)

DRAWS = 20_000


def filtered(probs: torch.Tensor, k: int | None, p: float | None) -> torch.Tensor:
    """One row with what may not be drawn set to 0, renormalised: k first, p of what is left."""
    probs = probs.double().clone()
    ranking = probs.argsort(descending=True).tolist()
    if k is not None:
        probs[ranking[k:]] = 0.0
        probs /= probs.sum()
    if p is not None:
        mass = 0.0
        for token in ranking:
            if mass >= p:
                probs[token] = 0.0
            mass += float(probs[token])
        probs /= probs.sum()
    return probs


def draw(probs: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None) -> torch.Tensor:
    if k is None:
        return top_p_sampling_from_probs(probs, top_p=p, deterministic=True)
    if p is None:
        return top_k_sampling_from_probs(probs, top_k=k, deterministic=True)
    return top_k_top_p_sampling_from_probs(probs, top_k=k, top_p=p, deterministic=True)


@pytest.mark.parametrize(
    ("k", "p"), [(3, None), (7, None), (None, 0.5), (None, 0.9), (None, 1.0), (4, 0.8), (7, 1.0)]
)
def test_frequencies(k: int | None, p: float | None) -> None:
    """Chi-square of many draws of one row; 99.99 % quantiles, so a fixed seed passes for good."""
    torch.manual_seed(0)
    row = torch.tensor([0.05, 0.3, 0.1, 0.25, 0.02, 0.2, 0.08])
    probs = row.expand(DRAWS, 7).contiguous()
    ids = draw(
        probs,
        None if k is None else torch.full((DRAWS,), k, dtype=torch.int32),
        None if p is None else torch.full((DRAWS,), p),
    )
    assert ids.dtype == torch.int32
    assert ids.shape == (DRAWS,)
    counts = ids.long().bincount(minlength=7).double()
    expected = filtered(row, k, p) * DRAWS
    assert not counts[expected == 0].any()
    possible = expected > 0
    chi_square = ((counts - expected).square() / expected)[possible].sum().item()
    quantile = {1: 15.1, 2: 18.4, 3: 21.1, 4: 23.5, 5: 25.7, 6: 27.9}
    assert chi_square < quantile[int(possible.sum()) - 1]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 6),
    vocabulary=st.integers(1, 60),
    use=st.sampled_from(["k", "p", "kp"]),
    seed=st.integers(0, 1000),
)
def test_only_what_may_come(rows: int, vocabulary: int, use: str, seed: int) -> None:
    torch.manual_seed(seed)
    probs = (4 * torch.randn(rows, vocabulary)).softmax(-1)
    k = torch.randint(1, vocabulary + 1, (rows,), dtype=torch.int32) if "k" in use else None
    p = torch.rand(rows).clamp_(0.01) if "p" in use else None
    for _ in range(5):
        ids = draw(probs, k, p)
        for row, token in enumerate(ids.tolist()):
            allowed = filtered(
                probs[row], None if k is None else int(k[row]), None if p is None else float(p[row])
            )
            assert allowed[token] > 0


def test_one_token_left_is_the_most_probable() -> None:
    probs = torch.randn(5, 300).softmax(-1)
    best = probs.argmax(-1).int()
    ones = torch.ones(5, dtype=torch.int32)
    assert torch.equal(draw(probs, ones, None), best)
    assert torch.equal(draw(probs, None, torch.full((5,), 1e-6)), best)
    assert torch.equal(draw(probs, ones, torch.ones(5)), best)


def test_tokens_of_no_probability_never_come() -> None:
    probs = torch.zeros(2000, 6)
    probs[:, [1, 4]] = 0.5
    everything = torch.full((2000,), 6, dtype=torch.int32)
    for ids in (draw(probs, everything, None), draw(probs, None, torch.ones(2000))):
        assert set(ids.tolist()) == {1, 4}


def test_nucleus_wider_than_the_first_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat row needs more tokens than are ranked at first; a peaked one beside it does not."""
    monkeypatch.setattr(sampling, "SMALL_VOCABULARY", 40)
    monkeypatch.setattr(sampling, "NUCLEUS_SHARE", 7)
    torch.manual_seed(1)
    flat, peaked = torch.full((50,), 0.02), torch.full((50,), 1e-4)
    flat[0], peaked[3] = 0.03, 1 - 49e-4
    flat /= flat.sum()
    probs = torch.stack([flat, peaked]).repeat(4000, 1)
    ids = draw(probs, None, torch.tensor([0.799, 0.9]).repeat(4000))
    assert ids[1::2].eq(3).all()
    counts = ids[::2].long().bincount(minlength=50)
    assert (counts > 0).sum() == int((filtered(flat, None, 0.799) > 0).sum())


def test_seed_and_rows() -> None:
    probs = torch.randn(1, 40).softmax(-1).repeat(64, 1)
    p = torch.full((64,), 0.95)
    torch.manual_seed(5)
    first = draw(probs, None, p)
    torch.manual_seed(5)
    assert torch.equal(draw(probs, None, p), first)
    assert len(set(first.tolist())) > 1  # rows draw on their own


def test_empty_batch() -> None:
    none = torch.empty(0, 10)
    k, p = torch.empty(0, dtype=torch.int32), torch.empty(0)
    for ids in (draw(none, k, None), draw(none, None, p), draw(none, k, p)):
        assert ids.shape == (0,)


VIOLATIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "probs dtype": ("probs", lambda t: t.half()),
    "probs dims": ("probs", lambda t: t[0]),
    "probs strides": ("probs", lambda t: t.T.contiguous().T),
    "probs NaN": ("probs", lambda t: t * float("nan")),
    "probs without mass": ("probs", lambda t: t * 0),
    "k of 0": ("top_k", lambda t: t * 0),
    "k beyond the vocabulary": ("top_k", lambda t: t + 100),
    "k dtype": ("top_k", lambda t: t.float()),
    "k count": ("top_k", lambda t: t[:1]),
    "p of 0": ("top_p", lambda t: t * 0),
    "p above 1": ("top_p", lambda t: t * 2),
    "p dtype": ("top_p", lambda t: t.double()),
    "p count": ("top_p", lambda t: t[:1]),
}


ARGUMENTS = {
    top_p_sampling_from_probs: ("probs", "top_p"),
    top_k_sampling_from_probs: ("probs", "top_k"),
    top_k_top_p_sampling_from_probs: ("probs", "top_k", "top_p"),
}


def test_both_refuses_k_of_int64() -> None:
    probs, p = torch.rand(3, 20).softmax(-1), torch.full((3,), 0.8)
    with pytest.raises(VendorContractError, match=r"'top_k'.*int32"):
        top_k_top_p_sampling_from_probs(probs, top_k=torch.full((3,), 5), top_p=p)


@pytest.mark.parametrize(
    ("function", "case"),
    [
        (function, case)
        for function, names in ARGUMENTS.items()
        for case, (argument, _) in VIOLATIONS.items()
        if argument in names
    ],
)
def test_refuses(function: Callable[..., Any], case: str) -> None:
    argument, change = VIOLATIONS[case]
    values = {
        "probs": torch.rand(3, 20).softmax(-1),
        "top_k": torch.full((3,), 5, dtype=torch.int32),
        "top_p": torch.full((3,), 0.8),
    }
    call = {name: values[name] for name in ARGUMENTS[function]}
    call[argument] = change(call[argument])
    with pytest.raises(VendorContractError) as raised:
        function(call.pop("probs"), **call)
    assert (raised.value.function, raised.value.argument) == (function.__name__, argument)
