# SPDX-License-Identifier: Apache-2.0
"""A draft head may lack what it shares with its target, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import transformers
from vllm.transformers_utils.configs.eagle import EAGLEConfig

from vllm_kunlun.platforms.loading import heads

VOCABULARY = 20


@pytest.fixture
def config() -> SimpleNamespace:
    model = transformers.LlamaConfig(vocab_size=VOCABULARY, architectures=["LlamaForCausalLM"])
    return SimpleNamespace(hf_config=EAGLEConfig(model, method="eagle3"))


def head(own_tokens: int) -> torch.nn.Module:
    model = torch.nn.Module()
    model.draft_id_to_target_id = torch.nn.Parameter(
        torch.zeros(own_tokens, dtype=torch.long), requires_grad=False
    )
    return model


@pytest.mark.parametrize(
    ("stages", "own_tokens", "expected"),
    [
        (1, VOCABULARY, {"lm_head.weight", "model.embed_tokens.weight", "draft_id_to_target_id"}),
        (1, VOCABULARY - 1, {"lm_head.weight", "model.embed_tokens.weight"}),
        (2, VOCABULARY, {"lm_head.weight", "draft_id_to_target_id"}),
    ],
)
def test_what_is_the_targets(stages, own_tokens, expected, config, monkeypatch) -> None:
    monkeypatch.setattr(heads, "get_pp_group", lambda: SimpleNamespace(world_size=stages))
    assert heads.of_the_target(head(own_tokens), config) == expected


def test_a_model_that_is_no_head_must_be_whole(config) -> None:
    for described in (SimpleNamespace(), SimpleNamespace(hf_config=config.hf_config.model)):
        assert heads.of_the_target(head(VOCABULARY), described) == set()
