# SPDX-License-Identifier: Apache-2.0
"""A tokenizer for threads: the event loop's may not be used in another thread.

A fast tokenizer of transformers first sets how it truncates and pads, then encodes without the
interpreter's lock. A second thread that sets it meanwhile gets "Already borrowed"; one that sets it
between the two changes what the first encodes.
"""

from __future__ import annotations

import copy
import threading
import weakref
from typing import Any

from transformers import PreTrainedTokenizerBase

from vllm_kunlun.platforms.ledger import patch_ledger

__all__ = ["OneAtATime", "of_threads", "start_batches"]

_copies: weakref.WeakKeyDictionary[Any, OneAtATime] = weakref.WeakKeyDictionary()


class OneAtATime:
    """A copy of ``tokenizer``, with which one thread encodes at a time.

    Args:
        tokenizer: a fast tokenizer; it is copied and stays the event loop's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = copy.deepcopy(tokenizer)
        self._lock = threading.Lock()
        self.batch_decode = self._tokenizer.batch_decode  # changes nothing, so waits for nobody
        self.model_max_length = tokenizer.model_max_length

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with self._lock:
            return self._tokenizer(*arguments, **options)


def of_threads(tokenizer: Any) -> Any:
    """What threads use for ``tokenizer``: its one copy, or itself where it is not fast."""
    if not (isinstance(tokenizer, PreTrainedTokenizerBase) and tokenizer.is_fast):
        return tokenizer
    if tokenizer not in _copies:
        _copies[tokenizer] = OneAtATime(tokenizer)
    return _copies[tokenizer]


def start_batches(self: Any, tokenizer: Any, *arguments: Any, **options: Any) -> None:
    """Stands for ``AsyncMicrobatchTokenizer.__init__``, whose encoding runs in a thread."""
    original = patch_ledger.original("tokenizer-of-threads")
    original(self, of_threads(tokenizer), *arguments, **options)
