# SPDX-License-Identifier: Apache-2.0
"""Token ids held against the model's vocabulary, of 100 here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.multimodal.inputs import PlaceholderRange

from vllm_kunlun.platforms.checks import token_ids
from vllm_kunlun.platforms.errors import UnsupportedError

VOCABULARY = 100


def request(prompt: Any = (1, 2), places: Any = (), **params: Any) -> tuple[Any, Any]:
    given = SamplingParams(**params)
    features = [SimpleNamespace(mm_position=place) for place in places]
    return SimpleNamespace(
        prompt_token_ids=list(prompt), mm_features=features, sampling_params=given.clone()
    ), given


@pytest.mark.parametrize("bad", [-5000, -1, VOCABULARY, 2**40])
@pytest.mark.parametrize("field", ["stop_token_ids", "allowed_token_ids", "logit_bias"])
def test_ids_outside_are_refused_by_field(field: str, bad: int) -> None:
    ids = {bad: 1.0} if field == "logit_bias" else [1, bad]
    with pytest.raises(UnsupportedError, match=rf"^{field}: token id {bad} .*0 to 99"):
        token_ids.check(*request(**{field: ids}), VOCABULARY)


@pytest.mark.parametrize("bad", [-1, VOCABULARY])
def test_prompts_are_checked(bad: int) -> None:
    with pytest.raises(UnsupportedError, match=rf"^prompt: token id {bad} "):
        token_ids.check(*request([1, bad]), VOCABULARY)


def test_an_images_place_may_hold_any_id() -> None:
    """Its embedding comes from the image."""
    prompt = [1, 5000, 5000, 2, 6000]
    places = [PlaceholderRange(4, 1), PlaceholderRange(1, 2)]
    token_ids.check(*request(prompt, places), VOCABULARY)
    with pytest.raises(UnsupportedError, match="token id 6000"):
        token_ids.check(*request(prompt, places[1:]), VOCABULARY)


def test_words_of_a_larger_tokenizer_are_refused() -> None:
    processed, given = request(bad_words=["a"])
    processed.sampling_params._bad_words_token_ids = [[1], [3, 100]]
    with pytest.raises(UnsupportedError, match=r"^bad_words: token id 100 "):
        token_ids.check(processed, given, VOCABULARY)


def test_ends_that_the_model_cannot_say_are_not_masked() -> None:
    """They come from the checkpoint, so no client is to blame."""
    processed, given = request(stop_token_ids=[7])
    processed.sampling_params.update_from_generation_config({"eos_token_id": [3, 100]}, 151645)
    token_ids.check(processed, given, VOCABULARY)
    assert processed.sampling_params.all_stop_token_ids == {3, 7}


def test_pooling_has_a_prompt_alone() -> None:
    token_ids.check(
        SimpleNamespace(prompt_token_ids=[1], mm_features=None, sampling_params=None), None, 100
    )


def test_embeddings_have_no_ids() -> None:
    processed, given = request()
    processed.prompt_token_ids = None
    token_ids.check(processed, given, VOCABULARY)
