# SPDX-License-Identifier: Apache-2.0
"""Which preset is chosen; what it adds is in ``test_serve``."""

from __future__ import annotations

from vllm_kunlun.cli.serving.plan import NOTHING, choose
from vllm_kunlun.platforms.families import ModelFamily, ServingPreset

CONFIGURATION = {"architectures": ["AForCausalLM"], "num_experts": 4}
FAMILY = ModelFamily(
    name="planted", distribution="kunlun-models-planted", architectures={"AForCausalLM": None},
    preset=ServingPreset(args={"seed": 1}), status="untested",
)  # fmt: skip


def test_family_before_template():
    assert choose("AForCausalLM", CONFIGURATION, FAMILY) == (
        "preset of the planted family",
        FAMILY.preset,
    )


def test_what_is_asked_for_before_the_family():
    chosen = choose("AForCausalLM", CONFIGURATION, FAMILY, "latent")
    assert chosen.source == "template C for latent attention (MLA)"


def test_template_without_a_family():
    assert choose("AForCausalLM", CONFIGURATION, None).source.startswith("template B")


def test_no_preset():
    assert choose(None, None, None).preset is NOTHING
    assert choose("BertModel", {"architectures": ["BertModel"]}, None).preset is NOTHING
