# SPDX-License-Identifier: Apache-2.0
"""vLLM's encoding thread beside the event loop, on one tokenizer."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vllm.tokenizers.hf import get_cached_tokenizer
from vllm.utils import async_utils

from vllm_kunlun.platforms.service.tokenizers import of_threads

LONG = "0 1 2 3 4 5 6 7 8 9 " * 5000


@pytest.fixture
def tokenizer():
    words = {"<unk>": 0, **{str(digit): 1 + digit for digit in range(10)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return get_cached_tokenizer(PreTrainedTokenizerFast(tokenizer_object=inner))


@pytest.mark.skipif(
    not hasattr(async_utils, "AsyncMicrobatchTokenizer"),
    reason="0.33 gives each of its encoding threads a copy itself",
)
def test_a_server_s_encoding_thread_has_a_tokenizer_of_its_own(tokenizer):
    async def both() -> list[int]:
        batches = async_utils.AsyncMicrobatchTokenizer(tokenizer)
        long = asyncio.create_task(batches(LONG, truncation=True, max_length=7))
        lengths = []
        while not long.done():
            await asyncio.sleep(0)
            lengths.append(len(tokenizer("1 2 3 4 5 6 7 8 9")["input_ids"]))
        assert (await long)["input_ids"] == [1, 2, 3, 4, 5, 6, 7]
        return lengths

    assert set(asyncio.run(both())) == {9}


def test_threads_truncate_each_for_itself(tokenizer):
    shared = of_threads(tokenizer)
    wrong: list[object] = []

    def encode(length: int) -> None:
        for _ in range(20):
            try:
                ids = shared(LONG, truncation=True, max_length=length)["input_ids"]
            except RuntimeError as error:
                wrong.append(error)
            else:
                if len(ids) != length:
                    wrong.append(ids)

    threads = [threading.Thread(target=encode, args=(length,)) for length in (2, 5, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_copy_for_all_endpoints_which_is_the_tokenizer_s_equal(tokenizer):
    shared = of_threads(tokenizer)
    assert of_threads(tokenizer) is shared
    assert shared("3 1 2")["input_ids"] == tokenizer("3 1 2")["input_ids"]
    assert shared.batch_decode([[4, 2], [3]]) == tokenizer.batch_decode([[4, 2], [3]])
    assert shared.model_max_length == tokenizer.model_max_length


def test_what_is_not_fast_is_left_alone():
    plain = object()
    assert of_threads(plain) is plain
