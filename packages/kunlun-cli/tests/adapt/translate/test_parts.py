# SPDX-License-Identifier: Apache-2.0
"""What is what in a model."""

from __future__ import annotations

import pytest

from vllm_kunlun.platforms.errors import UnsupportedError


def test_a_decoder(parts):
    found = parts("helium")
    names = found.base, found.embedding, found.layers, found.norm, found.head
    assert names == ("model", "embed_tokens", "layers", "norm", "lm_head")
    assert (found.attention, found.feed_forward) == ("self_attn", "mlp")


def test_the_value_of_an_expression(parts):
    assert parts("helium").value("config.hidden_size // config.num_attention_heads") == 32


def test_another_shape_is_refused(parts):
    with pytest.raises(UnsupportedError, match=r"standard shape.*fc1, fc2"):
        parts("xglm")
