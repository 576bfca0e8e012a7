# SPDX-License-Identifier: Apache-2.0
"""Sampling of the emulator, beside its conformance cases: its two rankings and its random state."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator.functions import sampling
from vllm_kunlun.emulator.kunlun_ops import top_p_sampling_from_probs


def test_nucleus_wider_than_the_first_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat row needs more tokens than are ranked at first; a peaked one beside it does not."""
    monkeypatch.setattr(sampling, "SMALL_VOCABULARY", 40)
    monkeypatch.setattr(sampling, "NUCLEUS_SHARE", 7)
    torch.manual_seed(1)
    flat, peaked = torch.full((50,), 0.02), torch.full((50,), 1e-4)
    flat[0], peaked[3] = 0.03, 1 - 49e-4
    flat /= flat.sum()
    probs = torch.stack([flat, peaked]).repeat(4000, 1)
    ids = top_p_sampling_from_probs(probs, top_p=torch.tensor([0.799, 0.9]).repeat(4000))
    assert ids[1::2].eq(3).all()
    counts = ids[::2].long().bincount(minlength=50)
    # (0.03 + 39 * 0.02) / 1.01 is the first mass of at least 0.799.
    assert (counts > 0).sum() == 40


def test_seed_and_rows() -> None:
    probs = torch.randn(1, 40).softmax(-1).repeat(64, 1)
    p = torch.full((64,), 0.95)
    torch.manual_seed(5)
    first = top_p_sampling_from_probs(probs, top_p=p)
    torch.manual_seed(5)
    assert torch.equal(top_p_sampling_from_probs(probs, top_p=p), first)
    assert len(set(first.tolist())) > 1  # rows draw on their own
