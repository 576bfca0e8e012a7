# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of prompts, whose rows of logits are tokens of the step and not samples.

vLLM computes them a request at a time from a part of the step's hidden states, by the same output
projection as samples; an adapter on it must know which tokens those are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vllm_kunlun.platforms.errors import KunlunError
from vllm_kunlun.platforms.ledger import patch_ledger

if TYPE_CHECKING:  # imported while vLLM's modules are: none of them is there yet
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

__all__ = ["first_token", "get_prompt_logprobs_dict", "prompts_in"]

_step: list[Tensor] = []
"""The hidden states of the step whose prompts are read now; empty while tokens are sampled."""


def get_prompt_logprobs_dict(
    self: GPUModelRunner, hidden_states: Tensor, num_scheduled_tokens: dict[str, int]
) -> Any:
    """As vLLM's, with :func:`first_token` told whose tokens come.

    Shapes: hidden_states ``[T, H]``, a row for each token of the step.
    """
    with prompts_in(hidden_states):
        return patch_ledger.original("prompt-logprobs")(self, hidden_states, num_scheduled_tokens)


@contextlib.contextmanager
def prompts_in(hidden_states: Tensor) -> Iterator[None]:
    """While this lasts, rows that are multiplied out to logits are rows of ``hidden_states``."""
    _step.append(hidden_states)
    try:
        yield
    finally:
        _step.pop()


def first_token(rows: Tensor) -> int | None:
    """Which token of the step the first of ``rows`` is; None while tokens are sampled.

    Shapes: rows ``[R, H]``, a run of rows of the step's hidden states.

    Raises:
        KunlunError: they are none of the step's.
    """
    if not _step:
        return None
    states = _step[-1]
    bytes_of_row = states.stride(0) * states.element_size()
    token, rest = divmod(rows.data_ptr() - states.data_ptr(), bytes_of_row)
    if rest or not 0 <= token <= token + len(rows) <= len(states):
        raise KunlunError(
            "prompt_logprobs: the hidden states are not those of this step, so that the adapter of "
            "each is not known. Send the request without prompt_logprobs, or without an adapter."
        )
    return token
