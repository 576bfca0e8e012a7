# SPDX-License-Identifier: Apache-2.0
"""Requests with a grammar beside requests without one: each answers as it does alone."""

from __future__ import annotations

import json

import pytest
from support import smollm2
from support.engine import engine
from support.engine_state import drafts
from vllm import SamplingParams
from vllm.sampling_params import StructuredOutputsParams

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
PROMPTS = ["Give me JSON:", "The capital of France is", "A JSON object with a and b:", "one two"]


def ask(llm, index: list[int]) -> list[str]:
    """Every other prompt is answered under the grammar."""
    chosen = [
        SamplingParams(
            temperature=0,
            max_tokens=24,
            structured_outputs=None if i % 2 else StructuredOutputsParams(json=SCHEMA),
        )
        for i in index
    ]
    outputs = llm.generate([PROMPTS[i] for i in index], chosen, use_tqdm=False)
    return [output.outputs[0].text for output in outputs]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3,
                                "prompt_lookup_max": 3}},
    ],
    ids=["plain", "drafts"],
)  # fmt: skip
def test_a_mixed_batch_answers_as_each_alone(options):
    with engine(
        smollm2.checkpoint(), skip_tokenizer_init=False, disable_log_stats=False, **options
    ) as llm:
        alone = [ask(llm, [i])[0] for i in range(4)]
        assert ask(llm, [0, 1, 2, 3]) == alone
        assert ask(llm, [3, 2, 1, 0]) == alone[::-1]
        if "speculative_config" in options:
            proposed, accepted = drafts(llm)
            assert 0 < accepted <= proposed
    assert "Paris" in alone[1]
    for text in alone[::2]:
        assert json.loads(text).keys() == {"a", "b"}
