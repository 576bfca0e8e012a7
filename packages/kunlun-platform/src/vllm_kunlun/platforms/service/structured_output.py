# SPDX-License-Identifier: Apache-2.0
"""Grammars in the engine: each compiled by its own backend, and none that ends the engine."""

from __future__ import annotations

import logging
import threading
from typing import Any

from vllm.v1.structured_output.backend_types import StructuredOutputGrammar

from vllm_kunlun.platforms.ledger import patch_ledger

__all__ = ["NoTokens", "create_grammar", "grammar_init"]

logger = logging.getLogger("vllm.kunlun.service")

_lock = threading.RLock()
"""A grammar is compiled in another thread, from the moment at which its backend is there."""


class NoTokens(StructuredOutputGrammar):
    """Stands for a grammar that failed to compile: a text of nothing but its end.

    Args:
        eos_token_id: the token that ends a text.
    """

    def __init__(self, eos_token_id: int) -> None:
        self.eos_token_id = eos_token_id

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        return set(tokens) == {self.eos_token_id}

    def validate_tokens(self, tokens: list[int]) -> list[int]:
        return [token for token in tokens[:1] if token == self.eos_token_id]

    def rollback(self, num_tokens: int) -> None:
        """Nothing was advanced."""

    def fill_bitmask(self, bitmask: Any, batch_index: int) -> None:
        word, bit = divmod(self.eos_token_id, 32)
        bitmask[batch_index].zero_()
        bitmask[batch_index, word] = 1 << bit if bit < 31 else -(1 << 31)

    def is_terminated(self) -> bool:
        return False

    def reset(self) -> None:
        """Nothing was advanced."""


def grammar_init(self: Any, request: Any) -> None:
    """Stands for ``StructuredOutputManager.grammar_init``: a backend for each name."""
    if request.structured_output_request is None:
        return
    with _lock:
        backends = vars(self).setdefault("kunlun_backends", {})
        name = request.sampling_params.structured_outputs._backend
        self.backend = backends.get(name)
        patch_ledger.original("backend-of-each-grammar")(self, request)
        backends[name] = self.backend


def create_grammar(self: Any, request: Any) -> Any:
    """Stands for ``StructuredOutputManager._create_grammar``: what fails is an end of the text.

    What a request brings was compiled before it came here; this is for what only the model's own
    vocabulary shows.
    """
    asked = request.structured_output_request
    with _lock:
        backend = self.kunlun_backends.get(asked.params._backend) or self.backend
    try:
        return backend.compile_grammar(*asked.structured_output_key)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        logger.error(
            "Request %s: its grammar cannot be compiled (%s: %s); it gets an empty text.",
            request.request_id, type(error).__name__, error,
        )  # fmt: skip
        return NoTokens(self.tokenizer.eos_token_id)
