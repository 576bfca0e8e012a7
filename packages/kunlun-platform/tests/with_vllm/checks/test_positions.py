# SPDX-License-Identifier: Apache-2.0
"""Tables of positions that requests look up, and those that they do not."""

from __future__ import annotations

import pytest
import torch
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

from vllm_kunlun.platforms.checks import positions
from vllm_kunlun.platforms.errors import UnsupportedError


class Cached(torch.nn.Module, AttentionLayerBase):
    def get_attn_backend(self):
        raise NotImplementedError

    def get_kv_cache_spec(self, vllm_config):
        raise NotImplementedError


def rotating(rows: int, attention: torch.nn.Module) -> torch.nn.Module:
    rotation = torch.nn.Module()
    rotation.register_buffer("cos_sin_cache", torch.zeros(rows, 4))
    return torch.nn.ModuleDict({"rotary_emb": rotation, "attn": attention})


def test_requests_longer_than_the_table() -> None:
    model = torch.nn.ModuleDict({"0": rotating(512, Cached()), "1": rotating(256, Cached())})
    positions.check(model, 256)
    with pytest.raises(UnsupportedError, match=r"--max-model-len 257: .* Use --max-model-len 256"):
        positions.check(model, 257)


def test_a_learned_table() -> None:
    model = torch.nn.ModuleDict({"wpe": torch.nn.Embedding(64, 4)})
    assert list(positions.rows(model)) == [64]


def test_an_encoder_of_pictures_has_positions_of_its_own() -> None:
    model = torch.nn.ModuleDict({"visual": rotating(8, torch.nn.Identity())})
    positions.check(model, 10**6)
