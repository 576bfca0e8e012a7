# SPDX-License-Identifier: Apache-2.0
"""Every request on its way to the engine, of a server or of ``LLM``: the last place to refuse."""

from __future__ import annotations

from typing import Any

from vllm_kunlun.platforms.checks import grammars, numbers, token_ids
from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.ledger import patch_ledger

__all__ = ["process_inputs", "validate_structured_output", "validate_structured_outputs"]


def process_inputs(
    self: Any, request_id: str, prompt: Any, params: Any, *arguments: Any, **options: Any
) -> Any:
    """Stands for ``InputProcessor.process_inputs``; what it returns fits the model's vocabulary.

    Raises:
        UnsupportedError: a token id is outside of the vocabulary, or the priority of 64 bits.
    """
    numbers.check_integer("priority", options.get("priority", 0))
    original = patch_ledger.original("request-bounds")
    request = original(self, request_id, prompt, params, *arguments, **options)
    token_ids.check(request, params, self.model_config.get_vocab_size())
    return request


def validate_structured_output(self: Any, params: Any) -> None:
    """Stands for ``InputProcessor._validate_structured_output``, which compiles what it checks.

    Raises:
        UnsupportedError: what is to be compiled is over its bounds.
        ValueError: vLLM's compilers refuse it.
    """
    _validate(params.structured_outputs, self.structured_outputs_config, self, params)


def validate_structured_outputs(
    self: Any, model_config: Any, structured_outputs_config: Any, tokenizer: Any
) -> None:
    """Stands for ``SamplingParams._validate_structured_outputs``, which does so in 0.33.

    Raises: as :func:`validate_structured_output`.
    """
    asked = (self, model_config, structured_outputs_config, tokenizer)
    _validate(self.structured_outputs, structured_outputs_config, *asked)


def _validate(constraint: Any, config: Any, *asked: Any) -> None:
    if constraint is not None and config:
        grammars.check(constraint)
    try:
        patch_ledger.original("grammar-bounds")(*asked)
    except (AssertionError, AttributeError, LookupError, TypeError) as error:
        raise UnsupportedError(
            f"structured_outputs cannot be read ({type(error).__name__}: {error}). Correct it."
        ) from error
    if constraint is not None and constraint._backend_was_auto:
        _refuse_what_only_a_converter_takes(constraint)


def _refuse_what_only_a_converter_takes(constraint: Any) -> None:
    """A grammar in xgrammar's form that xgrammar refuses has a mistake in it.

    The backend that vLLM then falls back on converts the form first, and takes ``root ::= `` for a
    grammar.
    """
    if constraint._backend == "guidance" and "::=" in (constraint.grammar or ""):
        constraint._backend = None
        raise UnsupportedError("grammar: it is not valid EBNF. Correct it.")
