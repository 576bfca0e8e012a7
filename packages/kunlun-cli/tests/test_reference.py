# SPDX-License-Identifier: Apache-2.0
"""What HF transformers answers, greedily."""

from __future__ import annotations

import pytest
import torch
import transformers

from vllm_kunlun.cli import reference


@pytest.mark.parametrize(
    ("left", "right", "position"),
    [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1], [1, 2], 1), ([], [], None)],
)
def test_first_difference(left, right, position):
    assert reference.first_difference(left, right) == position


def test_reference_is_greedy_whatever_the_checkpoint_asks_for(tmp_path):
    """Against an argmax loop, on a checkpoint whose generation config asks for a penalty."""
    torch.manual_seed(0)
    configuration = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
        pad_token_id=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(configuration).eval()
    model.generation_config.repetition_penalty = 1.8
    model.save_pretrained(tmp_path)
    prompt, ids = [1, 5, 9, 9, 5], [1, 5, 9, 9, 5]
    with torch.inference_mode():
        while len(ids) < len(prompt) + 12 and (len(ids) == len(prompt) or ids[-1] != 2):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert reference.greedy(tmp_path, [prompt], 12) == [ids[len(prompt) :]]
