# SPDX-License-Identifier: Apache-2.0
"""Takes the place of ``vllm.v1.sample.rejection_sampler``.

vLLM's class stays as it is; the two functions that it reaches triton through become ours. They are
bound in the copy of the module behind the redirect, which nothing else imports.
"""

from __future__ import annotations

from typing import Any

import torch

from vllm_kunlun.ops.speculation import ragged, verification
from vllm_kunlun.ops.vllm_compat.target_probabilities import target_probabilities
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.ledger import import_hook

_vllm = import_hook.import_original("vllm.v1.sample.rejection_sampler")

_RULES = ("synthetic_mode", "fly_window_size", "use_fp64_gumbel")


def rejection_sample(
    draft_token_ids: torch.Tensor,
    num_draft_tokens: list[int],
    max_spec_len: int,
    cu_num_draft_tokens: torch.Tensor,
    draft_probs: torch.Tensor | None,
    target: torch.Tensor,
    bonus_token_ids: torch.Tensor,
    sampling_metadata: Any,
    **ways: Any,
) -> torch.Tensor:
    """In place of vLLM's function: see :func:`verification.verify`.

    Args:
        ways: of 0.33, to accept drafts by other rules; :data:`_RULES` are refused.

    Shapes: draft_token_ids ``[T]``, draft_probs and target ``[T, V]``, cu_num_draft_tokens ``[B]``,
    bonus_token_ids ``[B, 1]`` -> int32 ``[B, max_spec_len + 1]``.

    Raises: UnsupportedError: another rule is asked for.
    """
    if asked := [name for name in _RULES if ways.get(name)]:
        raise UnsupportedError(
            f"rejection_sample_method of --speculative-config ({', '.join(asked)}): only the "
            "standard rule is implemented. Leave it out."
        )
    greedy: torch.Tensor | bool = sampling_metadata.all_greedy
    if not (greedy or sampling_metadata.all_random):
        greedy = sampling_metadata.temperature == _vllm.GREEDY_TEMPERATURE
    return verification.verify(
        draft_token_ids,
        num_draft_tokens,
        cu_num_draft_tokens,
        draft_probs,
        target_probabilities(target),
        bonus_token_ids,
        greedy,
        sampling_metadata.generators,
    )


def expand_batch_to_tokens(
    x: torch.Tensor,
    cu_num_tokens: torch.Tensor,
    num_tokens: int,
    replace_from: int = 0,
    replace_to: int = 0,
) -> torch.Tensor:
    """:func:`ragged.expand` of ``x``, with ``replace_to`` where it is ``replace_from``.

    Shapes: x and cu_num_tokens ``[B]`` -> ``[num_tokens]``.
    """
    return ragged.expand(torch.where(x == replace_from, replace_to, x), cu_num_tokens, num_tokens)


_vllm.rejection_sample = rejection_sample  # type: ignore[attr-defined]
_vllm.expand_batch_to_tokens = expand_batch_to_tokens  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    return getattr(_vllm, name)
