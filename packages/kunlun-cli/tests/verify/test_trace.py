# SPDX-License-Identifier: Apache-2.0
"""What is noted of a forward pass: shapes made alike, copies, the attention of transformers."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from vllm_kunlun.cli.verify.trace import record, recorded_attention, taken_rows

T = 5


@pytest.mark.parametrize(
    "shape",
    [(T, 12), (1, T, 12), (1, T, 3, 4), (T, 3, 4), (T * 3, 4)],
)
def test_rows_are_tokens_and_heads_stand_side_by_side(shape):
    numbers = torch.arange(60.0)
    assert torch.equal(taken_rows(numbers.reshape(shape), T), numbers.reshape(T, 12))


def test_heads_in_front_are_turned_and_padding_is_cut():
    numbers = torch.arange(60.0).reshape(T, 3, 4)
    assert torch.equal(taken_rows(numbers.transpose(0, 1)[None], T), numbers.reshape(T, 12))
    assert torch.equal(taken_rows(torch.arange(28.0).reshape(7, 4), T),
                       torch.arange(20.0).reshape(T, 4))  # fmt: skip


def test_what_is_changed_in_place_later_is_noted_as_it_was():
    class Adds(nn.Module):
        def forward(self, x, residual):
            return x.add_(residual), residual

    class Attends(nn.Module):
        def forward(self, query, key, value):
            return query

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.adds, self.attends = Adds(), Attends()

        def forward(self, x):
            x, _ = self.adds(x, residual=torch.ones(T, 2))
            return self.attends(x, x + 1, x + 2)

    model, events = Model(), []
    handles = record(model, events, T, (Attends,))
    model(torch.zeros(T, 2))
    for handle in handles:
        handle.remove()
    model(torch.zeros(T, 2))
    said = [(e.module, e.what, [float(t.mean()) for t in e.tensors]) for e in events]
    assert said == [
        ("", "input", [0.0]),
        ("adds", "input", [0.0, 1.0]),
        ("adds", "output", [1.0, 1.0]),
        ("attends", "query", [1.0]),
        ("attends", "key", [2.0]),
        ("attends", "value", [3.0]),
        ("attends", "attended", [1.0]),
        ("", "output", [1.0]),
    ]


def test_the_attention_of_transformers_is_noted_and_put_back():
    from transformers.models.qwen3 import modeling_qwen3 as file

    before = file.eager_attention_forward
    config = transformers.Qwen3Config(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model, events = transformers.Qwen3ForCausalLM(config).eval(), []
    with torch.inference_mode(), recorded_attention(model, events, T):
        model(torch.arange(T)[None])
    assert file.eager_attention_forward is before
    found = {(e.module, e.what): tuple(e.tensors[0].shape) for e in events}
    name = "model.layers.0.self_attn"
    assert found == {
        (name, "query"): (T, 32),
        (name, "key"): (T, 16),
        (name, "value"): (T, 16),
        (name, "attended"): (T, 32),
    }
