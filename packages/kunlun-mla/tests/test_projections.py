# SPDX-License-Identifier: Apache-2.0
"""The products that decode does per head: against float64, and what int8 weights take."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.mla.projections import FloatProjections, Int8Projections

HEADS, NOPE, LATENT, VALUE, TOKENS = 16, 128, 512, 128, 5


@pytest.fixture(scope="module")
def weights():
    """DeepSeek-V3's on one of eight cards, as views of one matrix, the way a layer has them."""
    torch.manual_seed(0)
    whole = torch.randn(HEADS, NOPE + VALUE, LATENT, dtype=torch.float16) / LATENT**0.5
    w_uk, w_uv = whole.split([NOPE, VALUE], 1)
    return w_uk, w_uv.transpose(1, 2)


def _products(projections, dtype):
    generator = torch.Generator().manual_seed(1)
    query, latent = (
        torch.randn(TOKENS, HEADS, width, generator=generator).to(dtype) for width in (NOPE, LATENT)
    )
    # As the layer calls it: into a part of a wider tensor.
    wide = torch.full((TOKENS, HEADS, LATENT + 64), torch.nan, dtype=dtype)
    values = torch.full((TOKENS, HEADS, VALUE), torch.nan, dtype=dtype)
    projections.to_latent(query, wide[..., :LATENT])
    projections.to_values(latent, values)
    assert wide[..., LATENT:].isnan().all()
    return (query, wide[..., :LATENT]), (latent, values)


@pytest.mark.parametrize("kind", [FloatProjections, Int8Projections])
def test_products_are_near_float64(weights, kind):
    for (x, came), weight in zip(_products(kind(*weights), torch.float16), weights, strict=True):
        expected = torch.einsum("thk,hko->tho", x.double(), weight.double())
        # A weight is off by up to half a step of its row; the rest is rounding of float16.
        step = weight.double().abs().amax(1) / 127 if kind is Int8Projections else 0.0
        allowed = x.double().abs().sum(-1, keepdim=True) * step / 2 + 4e-3 * (1 + expected.abs())
        assert ((came.double() - expected).abs() <= allowed).all()


def test_int8_weights_take_half_and_their_scales(weights):
    projections = Int8Projections(*weights)
    held = sum(part.nbytes for pair in (projections._latent, projections._values) for part in pair)
    scales = 4 * HEADS * (LATENT + VALUE)
    assert held == sum(weight.numel() for weight in weights) + scales
    assert held / sum(weight.nbytes for weight in weights) < 0.51


def test_float_weights_are_views(weights):
    projections = FloatProjections(*weights)
    assert projections._w_uk.untyped_storage().data_ptr() == weights[1].untyped_storage().data_ptr()


@pytest.mark.parametrize("kind", [FloatProjections, Int8Projections])
def test_other_weights_lie_where_the_old_ones_did(weights, kind):
    held = [weight.clone() for weight in weights]
    projections = kind(*held)
    others = [weight.flip(0) for weight in weights]
    places = _places(projections)
    projections.renew(*others)
    assert _places(projections) == places
    for came, expected in zip(
        _products(projections, torch.float16), _products(kind(*others), torch.float16), strict=True
    ):
        assert torch.equal(came[1], expected[1])


def _places(projections):
    held = vars(projections).values()
    return [part.data_ptr() for each in held for part in (each if type(each) is tuple else (each,))]
