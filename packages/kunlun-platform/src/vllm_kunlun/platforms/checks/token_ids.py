# SPDX-License-Identifier: Apache-2.0
"""Token ids of a request, held against the model's own vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["check"]


def check(request: Any, given: Any, vocab_size: int) -> None:
    """Refuse ids for which the model has neither an embedding nor a logit.

    vLLM asks the tokenizer, where there is one, and of some fields nobody. Ids that the checkpoint
    itself names as ends of a text (a tokenizer may be larger than the model) can never come: they
    are dropped from what ``min_tokens`` forbids, which indexes the logits by them.

    Args:
        request: vLLM's ``EngineCoreRequest``, processed; its stop ids are changed in place.
        given: the parameters as the client gave them.
        vocab_size: of the model.

    Raises:
        UnsupportedError: naming the field, an id and the vocabulary.
    """
    _check("prompt", _text_ids(request), vocab_size)
    params = request.sampling_params
    if params is None:
        return
    _check("stop_token_ids", given.stop_token_ids or (), vocab_size)
    _check("allowed_token_ids", params.allowed_token_ids or (), vocab_size)
    _check("logit_bias", params.logit_bias or (), vocab_size)
    for word in params.bad_words_token_ids or ():
        _check("bad_words", word, vocab_size)
    params._all_stop_token_ids = {i for i in params._all_stop_token_ids if 0 <= i < vocab_size}


def _check(field: str, ids: Iterable[int], vocab_size: int) -> None:
    ids = list(ids)
    if not ids or (min(ids) >= 0 and max(ids) < vocab_size):
        return
    outside = next(i for i in ids if not 0 <= i < vocab_size)
    raise UnsupportedError(
        f"{field}: token id {outside} is outside of the model's vocabulary; expected 0 to "
        f"{vocab_size - 1}."
    )


def _text_ids(request: Any) -> Sequence[int]:
    """The prompt's ids but those in whose place an image or the like is put."""
    ids = request.prompt_token_ids or ()
    if not request.mm_features:
        return ids
    kept: list[int] = []
    position = 0
    for place in sorted((each.mm_position for each in request.mm_features), key=lambda p: p.offset):
        kept += ids[position : place.offset]
        position = max(position, place.offset + place.length)
    return [*kept, *ids[position:]]
