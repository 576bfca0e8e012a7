# SPDX-License-Identifier: Apache-2.0
"""Every other decoder that vLLM and transformers know: vLLM's class on our layers, against HF.

Written into ``support/matrix.json``; `nox -s support` runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers
import vllm
from support.architectures import NOT_TRIED, architectures, configuration
from support.engine import engine, greedy_with_logprobs
from support.matrix import Matrix, NotTried, path_of
from support.reference import Reference

pytestmark = pytest.mark.matrix

NEW_TOKENS = 12
LOGPROB_TOLERANCE = 1e-3


def _names() -> list[str]:
    """All that are no row of the matrix, in which more than this is tried."""
    path = path_of(vllm.__version__)
    rows = Matrix.load(path).rows if path.exists() else {}
    return [name for name in architectures() if name not in rows]


@pytest.fixture(scope="module", autouse=True)
def _no_name_is_missing(matrix):
    for name in _names():
        matrix.other(name)


@pytest.mark.parametrize("architecture", _names())
def test_tokens_and_logprobs_equal_transformers(architecture, prompts, tmp_path, matrix):
    with matrix.cell(architecture):
        if (reason := NOT_TRIED.get(architecture)) is not None:
            raise NotTried(reason)
        _hold_against_transformers(architecture, prompts, tmp_path)


def _hold_against_transformers(
    architecture: str, prompts: Sequence[Sequence[int]], folder: Path
) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configuration(architecture)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # norm weights and biases start as constants
            torch.nn.init.normal_(parameter, mean=parameter.data.mean().item(), std=0.1)
    model.save_pretrained(folder)
    reference = Reference(folder)
    with engine(folder) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS)
    for prompt, (tokens, logprobs) in zip(prompts, answers, strict=True):
        best, expected = reference.judge(prompt, tokens)
        assert tokens == best
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=LOGPROB_TOLERANCE, rtol=0)
