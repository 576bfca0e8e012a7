# SPDX-License-Identifier: Apache-2.0
"""Logits and probabilities lead to the same answer, in the dtype that is verified in."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops.vllm_compat import target_probabilities as compat


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_normalised(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(compat, "_LOGITS", True)
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    made = compat.target_probabilities(logits)
    assert made.dtype == torch.float32
    expected = logits.double().exp() / logits.double().exp().sum(-1, keepdim=True)
    torch.testing.assert_close(made.double(), expected, atol=1e-6, rtol=0)


def test_probabilities_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "_LOGITS", False)
    given = torch.full((1, 4), 0.25)
    assert compat.target_probabilities(given) is given
