# SPDX-License-Identifier: Apache-2.0
"""Rows of a prompt are found in the step that they are of."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.ops.vllm_modules import prompt_logprobs
from vllm_kunlun.platforms.errors import KunlunError
from vllm_kunlun.platforms.ledger import patch_ledger

STATES = torch.zeros(9, 6, dtype=torch.float16)


@pytest.mark.parametrize(("start", "count"), [(0, 9), (0, 1), (4, 3), (8, 1)])
def test_the_first_token(start, count):
    with prompt_logprobs.prompts_in(STATES):
        assert prompt_logprobs.first_token(STATES[start : start + count]) == start


def test_samples_have_none():
    assert prompt_logprobs.first_token(STATES[[1, 3]]) is None


def test_rows_of_another_step():
    with prompt_logprobs.prompts_in(STATES), pytest.raises(KunlunError, match="prompt_logprobs"):
        prompt_logprobs.first_token(STATES[2:4].clone())


def test_vllms_function_runs_with_its_step(monkeypatch):
    def vllms(runner, hidden_states, scheduled):
        return prompt_logprobs.first_token(hidden_states[5:7])

    monkeypatch.setattr(patch_ledger, "original", {"prompt-logprobs": vllms}.__getitem__)
    assert prompt_logprobs.get_prompt_logprobs_dict(object(), STATES, {}) == 5
    assert prompt_logprobs.first_token(STATES) is None
