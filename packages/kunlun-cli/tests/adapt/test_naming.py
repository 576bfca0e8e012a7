# SPDX-License-Identifier: Apache-2.0
"""A family's name of its architecture's, and names that no wheel can have."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.adapt.naming import begin_of, check_name, name_of
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("HeliumForCausalLM", "helium"),
        ("VaultGemmaForCausalLM", "vault-gemma"),
        ("SmolLM3ForCausalLM", "smol-lm3"),
        ("GPTNeoXForCausalLM", "gpt-neo-x"),
        ("Qwen3MoeForCausalLM", "qwen3-moe"),
        ("GPT2LMHeadModel", "gpt2"),
    ],
)
def test_names(architecture, name):
    assert name_of(architecture) == name
    check_name(name, "--name")


@pytest.mark.parametrize(
    ("architecture", "begin"),
    [
        ("TwoWordsForConditionalGeneration", "TwoWords"),
        ("InternVLChatModel", "InternVL"),
        ("GPT2LMHeadModel", "GPT2"),
        ("PlantedModel", "Planted"),
        ("Model", "Model"),
    ],
)
def test_the_task_is_no_part_of_the_begin(architecture, begin):
    assert begin_of(architecture) == begin


@pytest.mark.parametrize("name", ["Two", "two_words", "1st", "../up", "class", ""])
def test_a_name_that_cannot_be_is_refused(name):
    with pytest.raises(UnsupportedError, match="give another as --planted"):
        check_name(name, "--planted")
