# SPDX-License-Identifier: Apache-2.0
"""Streaming answers from vLLM's engine, with the times that ``demo`` reports."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vllm_kunlun.platforms.errors import KunlunError

__all__ = ["Answer", "answers", "chat_tokens"]


class Answer(NamedTuple):
    """One answer and how long it took."""

    prompt: str
    text: str
    prompt_tokens: list[int]
    tokens: list[int]
    first_token_ms: float
    total_ms: float


def chat_tokens(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of ``prompt`` as a user's message; plain where the model lacks a template."""
    if tokenizer.chat_template is None:
        return list(tokenizer.encode(prompt))
    message = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    return list(tokenizer.encode(text, add_special_tokens=False))


async def answers(
    model: Path,
    prompts: Sequence[str],
    max_tokens: int,
    started: Callable[[str], None],
    show: Callable[[str], None],
) -> list[Answer]:
    """Load ``model`` in float32 and answer the prompts one after the other, greedily.

    Args:
        model: checkpoint folder.
        prompts: user messages.
        max_tokens: most tokens for each answer.
        started: called with a prompt when its answer begins.
        show: called with each piece of text as it comes.

    Raises:
        KunlunError: the engine did not start.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    async with _engine(model) as engine:
        found = []
        for index, prompt in enumerate(prompts):
            started(prompt)
            ids = chat_tokens(tokenizer, prompt)
            found.append(await _answer(engine, f"demo-{index}", prompt, ids, max_tokens, show))
        return found


@asynccontextmanager
async def _engine(model: Path) -> AsyncIterator[Any]:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = AsyncEngineArgs(model=str(model), dtype="float32", disable_log_stats=True)
    try:
        engine = AsyncLLM.from_engine_args(arguments)
    except RuntimeError as error:
        if isinstance(error, KunlunError):
            raise
        raise KunlunError(
            f"vLLM's engine did not start: {error} Its own messages are above; "
            "`vllm-kunlun doctor` checks the installation."
        ) from error
    try:
        yield engine
    finally:
        engine.shutdown()


async def _answer(
    engine: Any,
    request: str,
    prompt: str,
    ids: list[int],
    max_tokens: int,
    show: Callable[[str], None],
) -> Answer:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    greedy = SamplingParams(
        temperature=0.0, max_tokens=max_tokens, output_kind=RequestOutputKind.DELTA
    )
    text, first_ms = "", 0.0
    tokens: list[int] = []
    begin = time.perf_counter()
    async for output in engine.generate({"prompt_token_ids": ids}, greedy, request):
        piece = output.outputs[0]
        if not tokens and piece.token_ids:
            first_ms = _since_ms(begin)
        tokens += piece.token_ids
        text += piece.text
        show(piece.text)
    return Answer(prompt, text, ids, tokens, first_ms, _since_ms(begin))


def _since_ms(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000
