# SPDX-License-Identifier: Apache-2.0
"""Rotary layers with several positions per token, against the arithmetic of vLLM's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.rotary_pairs import (
    DTYPES,
    MAX_POSITION,
    STYLES,
    TOKENS,
    close,
    heads,
    pair,
    places,
    rope,
)
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers import rotary_embedding
from vllm.model_executor.layers.rotary_embedding import MRotaryEmbedding
from vllm.model_executor.layers.rotary_embedding.ernie45_vl_rope import Ernie4_5_VLRotaryEmbedding

from vllm_kunlun.ops.layers import LAYERS, register_layers
from vllm_kunlun.ops.layers.rotary import KunlunRotation
from vllm_kunlun.ops.layers.rotary_mrope import KunlunMRotaryEmbedding


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


SECTIONS = {
    "chunked": {"mrope_section": [4, 6, 6]},
    "chunked-no-height": {"mrope_section": [10, 0, 6]},
    "interleaved": {"mrope_section": [6, 5, 5], "mrope_interleaved": True},
    "interleaved-width-longer": {"mrope_section": [4, 4, 8], "mrope_interleaved": True},
    "partial": {"mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5},
    "partial-interleaved": {
        "mrope_section": [4, 2, 2],
        "partial_rotary_factor": 0.5,
        "mrope_interleaved": True,
    },
}


@DTYPES
@STYLES
@pytest.mark.parametrize("sections", sorted(SECTIONS))
def test_three_positions(sections: str, neox: bool, dtype: torch.dtype) -> None:
    ours, theirs = pair(lambda: rope(dtype, neox, **SECTIONS[sections]))
    query, key = heads(dtype)
    kept = query.clone(), key.clone()
    for positions in (places(3), places(1)[0]):
        expected = theirs.forward_native(positions, query, key)
        close(ours(positions, query.clone(), key.clone()), expected)
    ours(places(3), query, key)
    assert torch.equal(query, kept[0])
    assert torch.equal(key, kept[1])


def test_three_equal_positions_are_one() -> None:
    ours, _ = pair(lambda: rope(torch.float32, True, **SECTIONS["interleaved"]))
    query, key = heads(torch.float32)
    one = places(1)
    three = ours(one.expand(3, -1), query, key)
    close(three, ours(one[0], query.clone(), key.clone()))


@pytest.mark.parametrize("extra", [{}, {"beta_fast": 8, "attn_factor": 0.5}], ids=str)
def test_yarn_of_images_is_yarn_of_text(extra: dict[str, Any]) -> None:
    """vLLM 0.15.1 cannot build its own layer, so its layer for text says what is right."""
    parameters = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    ours = rope(torch.float32, True, **parameters, **extra, mrope_section=[4, 6, 6])
    text = rope(torch.float32, True, **parameters, **extra)
    assert type(ours) is LAYERS["MRotaryEmbedding"]
    query, key = heads(torch.float32)
    positions = torch.tensor([0, 1, 2, 31, 100, 511, 512, 1500, 2047])
    expected = text.forward_native(positions, query, key)
    close(ours(positions.expand(3, -1), query, key), expected)


@pytest.mark.parametrize(("given", "length"), [({}, 512), ({"positions_factor": 1}, 2048)])
def test_rotations_are_counted_over_the_context(
    given: dict[str, int], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the table that vLLM makes, which a model of 0.33 may want as long as the context."""
    counted: list[int] = []
    monkeypatch.setattr(MRotaryEmbedding, "__init__", lambda self, *_, **__: None)
    monkeypatch.setattr(
        MRotaryEmbedding,
        "_compute_inv_freq",
        lambda self, base: counted.append(self.max_position_embeddings),
    )
    monkeypatch.setattr(KunlunRotation, "__init__", MRotaryEmbedding.__init__)
    layer = KunlunMRotaryEmbedding(**given)
    layer.max_position_embeddings = 2048
    layer._compute_inv_freq(10_000.0)
    assert (counted, layer.max_position_embeddings) == ([length], 2048)


def test_slices_of_a_packed_projection() -> None:
    ours, theirs = pair(lambda: rope(torch.float32, True, **SECTIONS["chunked"]))
    packed, positions = torch.randn(TOKENS, 8 * 32), places(3)
    query, key, _ = packed.split([4 * 32, 2 * 32, 2 * 32], dim=-1)
    expected = theirs.forward_native(positions, query.contiguous(), key.contiguous())
    close(ours(positions, query, key), expected)


@DTYPES
def test_ernie(dtype: torch.dtype) -> None:
    def build() -> Any:
        return Ernie4_5_VLRotaryEmbedding(
            32, 32, MAX_POSITION, 10_000, True, dtype, mrope_section=[5, 5, 6]
        )

    ours, theirs = pair(build)
    query, key = heads(dtype)
    for positions in (places(3), places(1)[0]):
        expected = theirs.forward_native(positions, query, key)
        close(ours(positions, query.clone(), key.clone()), expected)


@pytest.mark.skipif(not hasattr(rotary_embedding, "XDRotaryEmbedding"), reason="not in this vLLM")
@DTYPES
def test_xd(dtype: torch.dtype) -> None:
    parameters = {"rope_type": "xdrope", "alpha": 1000.0, "xdrope_section": [3, 4, 4, 5]}
    ours, theirs = pair(lambda: rope(dtype, True, **parameters))
    query, key = heads(dtype)
    positions = places(4)
    expected = theirs.forward_native(positions, query, key)
    close(ours(positions, query.clone(), key.clone()), expected)
