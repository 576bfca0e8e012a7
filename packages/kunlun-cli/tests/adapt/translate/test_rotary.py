# SPDX-License-Identifier: Apache-2.0
"""Halves or neighbours, of a whole head or of a part."""

from __future__ import annotations

import sys

import pytest

from vllm_kunlun.cli.adapt.translate.reading import UntranslatedError
from vllm_kunlun.cli.adapt.translate.rotary import Rotary, rotary_of

FUNCTION = "apply_rotary_pos_emb"


@pytest.mark.parametrize(
    ("model_type", "wanted"),
    [
        ("helium", Rotary(neox=False, size=32)),
        ("llama", Rotary(neox=True, size=32)),
        ("phi", Rotary(neox=True, size=16)),
    ],
)
def test_of_transformers(parts, model_type, wanted):
    found = parts(model_type)
    assert rotary_of(found.layer.self_attn, found.rotary, FUNCTION) == wanted


def test_another_rotation_is_not_taken_for_one(parts, monkeypatch):
    found = parts("llama")
    file = sys.modules[type(found.layer.self_attn).__module__]
    monkeypatch.setattr(file, FUNCTION, lambda q, k, cos, sin: (q * cos, k * cos))
    with pytest.raises(UntranslatedError, match="neither halves nor neighbours"):
        rotary_of(found.layer.self_attn, found.rotary, FUNCTION)


def test_angles_that_differ_by_layer(parts):
    found = parts("gemma3_text")
    with pytest.raises(UntranslatedError, match="angles differ by layer"):
        rotary_of(found.layer.self_attn, found.rotary, FUNCTION)
