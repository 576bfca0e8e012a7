# SPDX-License-Identifier: Apache-2.0
"""Who judges a checkpoint; whole comparisons are run in ``tests/user/test_verify_model.py``."""

from __future__ import annotations

import json

import pytest

from vllm_kunlun.cli.verify.judge import lacking
from vllm_kunlun.cli.verify.model import judge_of

BROUGHT = "from transformers import PretrainedConfig\nclass Brought(PretrainedConfig):\n    pass\n"


@pytest.fixture
def folder(tmp_path):
    """``folder(model_type, ...)``: a config.json, and a class that one may name."""

    def write(model_type, **values):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **values}))
        (tmp_path / "brought.py").write_text(BROUGHT)
        return tmp_path

    return write


def test_transformers_judges_what_it_has(folder):
    assert judge_of("auto", folder("qwen3"), trust_remote_code=False) == "transformers"


def test_vllm_judges_what_transformers_lacks(folder):
    place = folder("ovis")
    assert judge_of("auto", place, trust_remote_code=False) == "vllm"
    assert "ovis" in lacking(place, trust_remote_code=False)


def test_a_configuration_without_a_model_is_none(folder):
    """As of a checkpoint that brings its configuration's class alone."""
    place = folder("brought", auto_map={"AutoConfig": "brought.Brought"})
    assert judge_of("auto", place, trust_remote_code=True) == "vllm"


def test_a_checkpoint_that_brings_its_model_is_transformers(folder):
    names = {"AutoConfig": "brought.Brought", "AutoModelForCausalLM": "brought.Model"}
    place = folder("brought", auto_map=names)
    assert judge_of("auto", place, trust_remote_code=True) == "transformers"


@pytest.mark.parametrize("judge", ["transformers", "vllm"])
def test_what_was_asked_for_judges(folder, judge):
    assert judge_of(judge, folder("qwen3"), trust_remote_code=False) == judge
