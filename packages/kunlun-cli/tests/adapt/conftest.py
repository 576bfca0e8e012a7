# SPDX-License-Identifier: Apache-2.0
"""Tiny models of transformers, and a config.json of one."""

from __future__ import annotations

import functools
import json

import pytest


@functools.cache
def _model(model_type, values):
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from vllm_kunlun.cli.adapt.tiny import shrunk

    config = shrunk(CONFIG_MAPPING[model_type](**json.loads(values)))
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@pytest.fixture
def model():
    """``model("helium", mlp_bias=True)``: random weights, made once."""
    return lambda model_type, **values: _model(model_type, json.dumps(values))


@pytest.fixture
def parts(model):
    """``parts("helium")``: what is what in that model."""
    from vllm_kunlun.cli.adapt.translate.parts import parts_of

    return lambda model_type, **values: parts_of(model(model_type, **values))


@pytest.fixture
def checkpoint(tmp_path):
    """``checkpoint("helium", "HeliumForCausalLM")``: a config.json."""

    def write(model_type, architecture, **values):
        from transformers import CONFIG_MAPPING

        told = CONFIG_MAPPING[model_type](architectures=[architecture], **values).to_dict()
        file = tmp_path / "config.json"
        file.write_text(json.dumps(told))
        return file

    return write
