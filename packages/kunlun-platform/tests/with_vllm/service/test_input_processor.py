# SPDX-License-Identifier: Apache-2.0
"""vLLM's own input processor, with our bounds around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.engine.input_processor import InputProcessor

from vllm_kunlun.platforms.errors import UnsupportedError
from vllm_kunlun.platforms.ledger import patch_ledger
from vllm_kunlun.platforms.service import input_processor

Process = Callable[..., Any]
ASKS_PARAMETERS = hasattr(SamplingParams, "_validate_structured_outputs")
"""0.33 asks the parameters of a request, and until then vLLM asks the processor."""


def _given(prompt: list[int], params: SamplingParams) -> tuple[Any, ...]:
    """The prompt and what follows it: 0.33 wants a prompt as its renderer leaves it, and tasks."""
    if (
        "supported_tasks"
        not in inspect.signature(patch_ledger.original("request-bounds")).parameters
    ):
        return {"prompt_token_ids": prompt}, params
    return {"type": "token", "prompt_token_ids": prompt}, params, ("generate",)


@pytest.fixture
def process(build: Any) -> Process:
    """``process(prompt, priority=..., **params)``: without a tokenizer, of 128 token ids."""
    processor = InputProcessor(build())

    def process(prompt: list[int], priority: int = 0, **params: Any) -> Any:
        given = SamplingParams(detokenize=False, **params)
        return processor.process_inputs("one", *_given(prompt, given), priority=priority)

    return process


def test_a_request_comes_as_vllm_makes_it(process: Process) -> None:
    request = process([0, 127], stop_token_ids=[127], priority=3)
    assert request.prompt_token_ids == [0, 127]
    assert request.priority == 3
    assert request.sampling_params.stop_token_ids == [127]


@pytest.mark.parametrize(
    ("prompt", "params", "field"),
    [
        ([-1], {}, "prompt|Token id -1"),
        ([128], {}, "prompt|Token id 128"),
        ([1], {"stop_token_ids": [-5]}, r"stop_token_ids|token_id\(s\) \[-5\] in stop_token_ids"),
        ([1], {"allowed_token_ids": [128]}, "allowed_token_ids"),
        ([1], {"priority": 2**70}, "priority"),
        ([1], {"temperature": float("nan")}, "temperature"),
        ([1], {"n": 129, "temperature": 1.0}, "n="),
    ],
)
def test_without_a_tokenizer_the_model_bounds_them(
    process: Process, prompt: list[int], params: dict[str, Any], field: str
) -> None:
    with pytest.raises((ValueError, VLLMValidationError), match=f"^({field})"):
        process(prompt, **params)


class Processor:
    """What the compilers' check reads of the processor."""

    structured_outputs_config: Any
    tokenizer: Any = None

    def __init__(self, backend: str) -> None:
        self.structured_outputs_config = SimpleNamespace(backend=backend)
        self.model_config = SimpleNamespace(skip_tokenizer_init=False, is_diffusion=False)


def validate(backend: str = "auto", **kind: Any) -> SamplingParams:
    params = SamplingParams(structured_outputs=StructuredOutputsParams(**kind))
    processor = Processor(backend)
    if ASKS_PARAMETERS:
        config = processor.structured_outputs_config
        params._validate_structured_outputs(processor.model_config, config, object())
    else:
        input_processor.validate_structured_output(processor, params)
    return params


def test_parameters_that_check_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.33 asks the parameters, with what the processor had."""
    asked: list[Any] = []
    monkeypatch.setattr(
        patch_ledger, "original", {"grammar-bounds": lambda *given: asked.append(given)}.__getitem__
    )
    params = SamplingParams(structured_outputs=StructuredOutputsParams(regex="a"))
    input_processor.validate_structured_outputs(params, "model", "config", "tokenizer")
    assert asked == [(params, "model", "config", "tokenizer")]
    params = SamplingParams(structured_outputs=StructuredOutputsParams(regex="a" * 10**6))
    with pytest.raises(UnsupportedError):
        input_processor.validate_structured_outputs(params, "model", "config", "tokenizer")
    assert len(asked) == 1


@pytest.mark.parametrize("grammar", ["root ::= ", 'root ::= ("a"', "root ::= nothing"])
def test_a_mistaken_grammar_is_refused(grammar: str) -> None:
    with pytest.raises((ValueError, VLLMValidationError), match=r"(?i)grammar"):
        validate(grammar=grammar)


def test_a_tag_of_another_form_is_refused() -> None:
    """xgrammar refuses it, and the backend that vLLM falls back on looks up what is not there."""
    ours, vllms = "structured_outputs cannot be read", "XGrammar rejected the constraint"
    with pytest.raises((UnsupportedError, VLLMValidationError), match=f"{ours}|{vllms}"):
        validate(structural_tag='{"format": [[], {}]}')


def test_what_is_too_large_is_never_compiled() -> None:
    with pytest.raises(UnsupportedError, match="VLLM_KUNLUN_MAX_GRAMMAR_REPEATS"):
        validate(json={"type": "array", "items": {"type": "integer"}, "minItems": 10**9})


def test_each_gets_the_backend_that_takes_it() -> None:
    assert validate(grammar='root ::= "a"').structured_outputs._backend == "xgrammar"
    multiples = {"type": "integer", "multipleOf": 5}
    if ASKS_PARAMETERS:  # and for a tokenizer that guidance can read, which there is none of here
        with pytest.raises(VLLMValidationError, match="Guidance does not support this tokenizer"):
            validate(json=multiples)
    else:
        assert validate(json=multiples).structured_outputs._backend == "guidance"
