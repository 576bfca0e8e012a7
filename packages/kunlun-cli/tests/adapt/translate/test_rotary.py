# SPDX-License-Identifier: Apache-2.0
"""Halves or neighbours, of a whole head or of a part; angles that differ by the kind of layer."""

from __future__ import annotations

import copy
import sys

import pytest
import transformers
from packaging.version import Version

from vllm_kunlun.cli.adapt.translate.parts import parts_of
from vllm_kunlun.cli.adapt.translate.reading import UntranslatedError
from vllm_kunlun.cli.adapt.translate.rotary import Rotary, rotary_of

FUNCTION = "apply_rotary_pos_emb"
KINDS = ("full", "sliding")
SCALED = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}


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
    assert rotary_of(found, FUNCTION) == wanted


def test_another_rotation_is_not_taken_for_one(parts, monkeypatch):
    found = parts("llama")
    file = sys.modules[type(found.layer.self_attn).__module__]
    monkeypatch.setattr(file, FUNCTION, lambda q, k, cos, sin: (q * cos, k * cos))
    with pytest.raises(UntranslatedError, match="neither halves nor neighbours"):
        rotary_of(found, FUNCTION)


BY_KIND = Version(transformers.__version__) >= Version("5")
"""One module makes the angles of each kind of layer, of ``config.rope_parameters[kind]``."""


@pytest.mark.parametrize(
    ("model_type", "values", "local"),
    [
        ("gemma3_text", {}, "config.rope_local_base_freq"),
        # of one base, stretched where attention is full
        ("olmo3", SCALED, 'config.rope_parameters["rope_theta"]'),
    ],
)
def test_angles_that_differ_by_the_kind_of_layer(parts, model_type, values, local):
    full, sliding = (
        "config.rope_parameters", f'{{"rope_type": "default", "rope_theta": {local}}}'
    )  # fmt: skip
    if BY_KIND:
        full, sliding = (f'config.rope_parameters["{each}_attention"]' for each in KINDS)
    text = rotary_of(parts(model_type, **values), FUNCTION).parameters
    assert f'"sliding_attention": {sliding}' in text
    assert f'"full_attention": {full}' in text
    assert text.endswith("}[config.layer_types[layer_idx]]")


@pytest.mark.skipif(BY_KIND, reason="each layer takes what config.layer_types says")
def test_angles_that_differ_otherwise_are_not_guessed(model):
    changed = copy.deepcopy(model("gemma3_text"))
    changed.config.layer_types[0] = "full_attention"  # it was made as a sliding one
    with pytest.raises(UntranslatedError, match="among layers of one kind"):
        rotary_of(parts_of(changed), FUNCTION)
    changed.config.layer_types = None
    with pytest.raises(UntranslatedError, match="no layer_types"):
        rotary_of(parts_of(changed), FUNCTION)


def test_angles_of_a_base_that_the_configuration_does_not_name(model):
    changed = copy.deepcopy(model("gemma3_text"))
    if BY_KIND:
        changed.config.rope_parameters["sliding_attention"]["rope_theta"] = 1234.0
    else:
        changed.config.rope_local_base_freq = 1234.0
    with pytest.raises(UntranslatedError, match="of no base in the configuration"):
        rotary_of(parts_of(changed), FUNCTION)
