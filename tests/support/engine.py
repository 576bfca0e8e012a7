# SPDX-License-Identifier: Apache-2.0
"""The real vLLM engine, started and ended inside a test."""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import hung, judges_classes
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

START_SECONDS = 300
"""An engine whose processes need longer to start hangs: they take a minute on two busy cores."""

_LATER = {
    "compiled": {"enforce_eager": False},
    "chunks": {"enable_chunked_prefill": True, "max_num_batched_tokens": 40},
    "two-ranks": {"tensor_parallel_size": 2},
}
WAYS = [
    pytest.param({}, id="eager"),
    *(pytest.param(options, id=way, marks=pytest.mark.slow) for way, options in _LATER.items()),
]
"""Options under which a model must answer the same; two ranks want processes of their own."""


MEASURED: dict[str, Any] = {"kv_cache_memory_bytes": None}
"""Where the cache's size is not given, an engine first runs what its largest step would be."""


@contextlib.contextmanager
def engine(checkpoint: Path, **arguments: Any) -> Iterator[LLM]:
    """vLLM's engine on ``checkpoint``; keyword arguments are vLLM's own."""
    options: dict[str, Any] = {
        "dtype": "float32",
        "max_model_len": 256,
        "max_num_seqs": 16,
        "skip_tokenizer_init": True,
        "enforce_eager": True,
        "kv_cache_memory_bytes": 64 * 2**20,
        "seed": 0,
        **arguments,
    }
    try:
        with judges_classes.kept(), _kept_variable("VLLM_USE_BREAKABLE_CUDAGRAPH"):
            llm = _start(model=str(checkpoint), **options)
            try:
                yield llm
            finally:
                llm.llm_engine.engine_core.shutdown()
                del llm
    finally:
        # Also of an engine that was refused: the next one may want other groups of ranks.
        from vllm.distributed import cleanup_dist_env_and_memory
        from vllm.model_executor.layers.rotary_embedding import _ROPE_DICT
        from vllm.model_executor.models import interfaces
        from vllm.utils import func_utils

        # vLLM remembers methods of the model, and with them its weights and its cache; until 0.16
        # a model with pictures, too.
        getattr(func_utils, "_supports_kw", func_utils.supports_kw).cache_clear()
        interfaces._language_model_by_module.clear()
        gc.collect()
        cleanup_dist_env_and_memory()
        # vLLM keeps rotations for the next model, and some models (GLM, Ernie) change theirs.
        _ROPE_DICT.clear()


@contextlib.contextmanager
def _kept_variable(name: str) -> Iterator[None]:
    """Leave ``name`` as it was: 0.33 sets it for some models, and compiles no other one then."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


class HungStartError(Exception):
    """The processes of an engine hung while they started; the message has their stacks."""


def _start(**options: Any) -> LLM:
    """vLLM's engine, with a second start if the first one hung: that computed no answer yet.

    Raises: HungStartError: the second one hung, too.
    """
    try:
        return _start_in_time(**options)
    except HungStartError as error:
        warnings.warn(f"started once more, because {error}", stacklevel=2)
    gc.collect()
    return _start_in_time(**options)


def _start_in_time(**options: Any) -> LLM:
    with hung.limit(START_SECONDS, spared=hung.started()) as limit:
        try:
            return LLM(**options)
        except RuntimeError as error:
            failure = error
    if not limit.passed:
        raise failure
    message = f"the engine did not start in {START_SECONDS} s, and its processes printed:"
    raise HungStartError(f"{message}\n{limit.stacks}") from failure


Prompt = Sequence[int] | dict[str, Any]
"""Tokens, or a request as vLLM takes them, with pictures."""


def greedy(llm: LLM, prompts: Sequence[Prompt], count: int) -> list[list[int]]:
    """``count`` greedy tokens for each prompt, all prompts in one call."""
    return [list(output.token_ids) for output in _generate(llm, prompts, count)]


def greedy_with_logprobs(
    llm: LLM,
    prompts: Sequence[Prompt],
    count: int,
    adapters: Sequence[LoRARequest | None] | None = None,
) -> list[tuple[list[int], list[float]]]:
    """As :func:`greedy`, with the log-probability of each token chosen; an adapter a prompt."""
    return [
        (
            list(output.token_ids),
            [
                step[token].logprob
                for token, step in zip(output.token_ids, output.logprobs, strict=True)
            ],
        )
        for output in _generate(llm, prompts, count, adapters, logprobs=0)
    ]


def _generate(
    llm: LLM,
    prompts: Sequence[Prompt],
    count: int,
    adapters: Sequence[LoRARequest | None] | None = None,
    **sampling: Any,
) -> list[Any]:
    parameters = SamplingParams(
        temperature=0.0, max_tokens=count, ignore_eos=True, detokenize=False, **sampling
    )
    outputs = llm.generate(
        [p if isinstance(p, dict) else {"prompt_token_ids": list(p)} for p in prompts],
        parameters,
        use_tqdm=False,
        lora_request=adapters,
    )
    return [output.outputs[0] for output in outputs]
