# SPDX-License-Identifier: Apache-2.0
"""The dense backend, driven as vLLM's runner drives it, against a loop in float64."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.mla import flashmla, metadata
from vllm_kunlun.mla.flashmla import FlashMLABackend
from vllm_kunlun.platforms.errors import UnsupportedError

BLOCK = 64
TOLERANCES = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
BATCHES = ["prefill", "decode", "mixed", "context", "two queries each", "three queries each"]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", BATCHES)
def test_dense(name, dtype, make_batch, monkeypatch):
    """The context of at most 240 tokens is read one page of each request at a time."""
    monkeypatch.setattr(metadata, "context_capacity_tokens", lambda config: 2 * BLOCK)
    batch = make_batch(name, dtype)
    came = batch.run(FlashMLABackend)
    torch.testing.assert_close(
        came.double(), batch.expected(), atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype]
    )


def test_values_wider_than_keys_are_refused(implementation):
    value = 24 + 16 + 1  # one above qk_nope_head_dim + qk_rope_head_dim
    weight = torch.zeros(3 * (24 + value), 40)
    with pytest.raises(UnsupportedError, match=r"v_head_dim=41.*VLLM_MLA_DISABLE=1"):
        implementation(FlashMLABackend, weight, value=value)


def test_profiling_run_gives_zeros(make_batch, implementation):
    batch = make_batch("prefill")
    layer = implementation(FlashMLABackend, batch.weight)
    output = torch.full((len(batch.new), 3 * 32), torch.nan)
    latent, rope = batch.new.split([40, 16], -1)
    layer.forward(None, batch.query, latent, rope.unsqueeze(1), torch.empty(0), None, output)
    assert not output.any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("decode", ["paged_attention"]),
        ("prefill", ["attention"]),
        ("mixed", ["paged_attention", "attention"]),
        ("two queries each", 2 * ["attention"]),
    ],
)
def test_which_of_the_vendors_functions_runs(name, expected, make_batch, called, monkeypatch):
    """One new token a request is decode; two, without speculation, are a prefill with context."""
    monkeypatch.setattr(metadata, "context_capacity_tokens", lambda config: 1024)
    make_batch(name).run(FlashMLABackend)
    assert [name for name in called if name.endswith("attention")] == expected


def test_values_are_padded_with_zeros_to_the_width_of_keys(make_batch, implementation):
    batch = make_batch("prefill")
    layer = implementation(FlashMLABackend, batch.weight)
    latent, rope = batch.new.split([40, 16], -1)
    key, value = layer._expanded(latent.contiguous(), rope)
    assert key.shape == value.shape
    assert not value[..., 32:].any()
    assert torch.equal(key[..., 24:], rope.unsqueeze(1).expand(-1, 3, -1))


def test_the_log_sum_exp_of_no_keys_is_finite_for_the_merge():
    lse = flashmla._of_tokens(torch.tensor([[1.0, -torch.inf, 3.0], [4.0, 5.0, 6.0]]))
    expected = torch.tensor([[1.0, 4.0], [flashmla.EMPTY_LSE, 5.0], [3.0, 6.0]])
    assert torch.equal(lse, expected)
    assert lse.isfinite().all()
