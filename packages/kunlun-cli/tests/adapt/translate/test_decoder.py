# SPDX-License-Identifier: Apache-2.0
"""Embeddings before the layers, logits after them."""

from __future__ import annotations

import copy

from vllm_kunlun.cli.adapt.translate.decoder import decoder_of, head_of
from vllm_kunlun.cli.adapt.translate.parts import parts_of


def test_embeddings_are_scaled(parts):
    found = decoder_of(parts("granite"))
    assert found.todo == []
    assert found.made == {"embedding_multiplier": "config.embedding_multiplier"}
    assert "inputs_embeds = inputs_embeds * self.embedding_multiplier" in found.lines
    assert decoder_of(parts("helium")).lines == ["hidden_states = inputs_embeds"]


def test_embeddings_that_scale_themselves(parts, model):
    found = decoder_of(parts("gemma3_text"))
    assert (found.todo, found.scale) == ([], "config.hidden_size ** 0.5")
    assert decoder_of(parts("granite")).scale == ""
    changed = copy.deepcopy(model("gemma3_text"))
    changed.model.embed_tokens.embed_scale += 1
    assert "does more than to look up rows" in decoder_of(parts_of(changed)).todo[0]


def test_logits_are_scaled_and_capped(parts):
    assert head_of(parts("granite")).lines == ["logits = logits / self.config.logits_scaling"]
    assert head_of(parts("helium")).lines == []
    assert head_of(parts("vaultgemma")).lines[0] == (
        "if self.config.final_logit_softcapping is not None:"
    )


def test_what_is_done_in_the_loop_is_named(parts):
    assert "in the loop" in decoder_of(parts("exaone4")).todo[0]
