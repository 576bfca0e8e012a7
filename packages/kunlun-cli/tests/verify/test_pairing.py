# SPDX-License-Identifier: Apache-2.0
"""Modules are paired by name, by vLLM's own mappings, and by the tensors that fill them."""

from __future__ import annotations

import pytest
from torch import nn
from vllm.model_executor.models.utils import WeightsMapper

from vllm_kunlun.cli.verify.pairing import pair, unpaired


def tree(**modules):
    made = nn.Module()
    for name, module in modules.items():
        made.add_module(name, module)
    return made


def linear():
    return nn.Linear(2, 2)


@pytest.fixture
def theirs():
    mlp = tree(gate_proj=linear(), up_proj=linear(), act_fn=nn.SiLU(), down_proj=linear())
    return tree(model=tree(mlp=mlp, norm=nn.LayerNorm(2)))


def test_joined_modules_are_paired_with_their_parts(theirs):
    ours = tree(model=tree(mlp=tree(gate_up_proj=linear(), act_fn=nn.SiLU(), down_proj=linear()),
                           norm=nn.LayerNorm(2)))  # fmt: skip
    ours.packed_modules_mapping = {"gate_up_proj": ["gate_proj", "up_proj"], "qkv_proj": ["q", "k"]}
    pairs = pair(ours, theirs)
    assert pairs["model.mlp.gate_up_proj"] == ("model.mlp.gate_proj", "model.mlp.up_proj")
    assert pairs["model.mlp.down_proj"] == ("model.mlp.down_proj",)
    assert pairs["model.mlp"] == ("model.mlp",)
    assert "model.mlp.act_fn" not in pairs, "it has no weights, and vLLM's also multiplies"
    assert unpaired(ours, pairs) == []


def test_a_prefix_is_mapped(theirs):
    ours = tree(language=tree(model=tree(mlp=tree(down_proj=linear()))))
    ours.hf_to_vllm_mapper = WeightsMapper(orig_to_new_prefix={"model.": "language.model."})
    pairs = pair(ours, theirs)
    assert pairs["language.model.mlp.down_proj"] == ("model.mlp.down_proj",)


def test_other_names_are_paired_by_the_tensors_that_fill_them(theirs):
    ours = tree(decoder=tree(feed=tree(w13=linear(), w2=linear()), last=nn.LayerNorm(2)))
    assert unpaired(ours, pair(ours, theirs)) == [
        "decoder.feed.w13", "decoder.feed.w2", "decoder.last"
    ]  # fmt: skip
    written = {
        "decoder.feed.w13.weight": ["model.mlp.gate_proj.weight", "model.mlp.up_proj.weight"],
        "decoder.feed.w2.weight": ["model.mlp.down_proj.weight"],
        "decoder.last.weight": ["model.norm.weight"],
    }
    pairs = pair(ours, theirs, written)
    assert pairs["decoder.feed.w13"] == ("model.mlp.gate_proj", "model.mlp.up_proj")
    assert pairs["decoder.feed"] == ("model.mlp",)
    assert unpaired(ours, pairs) == []
