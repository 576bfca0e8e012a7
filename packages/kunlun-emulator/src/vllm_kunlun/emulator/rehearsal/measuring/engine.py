# SPDX-License-Identifier: Apache-2.0
"""One model in vLLM's engine, and what its prefill and its decode steps ask of the device."""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

from vllm_kunlun.emulator.rehearsal import counts
from vllm_kunlun.emulator.rehearsal.measuring.request import Request
from vllm_kunlun.emulator.rehearsal.pool import POOL

__all__ = ["Sample", "measure"]

_SETTLED = 3
"""Tokens after which a decode step is like the one before it."""
_CACHE_BYTES = 256 << 20


class Sample(NamedTuple):
    """What some steps of one kind asked for."""

    steps: int
    asked: Counter[counts.Asked]
    milliseconds: float
    """Of one step on this machine, the emulator's arithmetic included; the median."""


class Measured(NamedTuple):
    """One model, as the device saw it."""

    prefill: Sample
    decode: Sample
    captured_bytes: int
    dtype: str
    """Of the model's numbers, such as ``bfloat16``."""


def measure(folder: str, request: Request) -> Measured:
    """Run ``folder`` and count.

    A prefill is a whole answer of one token. Decode steps are the difference of two whole answers:
    a step ahead, one step's work is spread over two calls of the engine, and a difference of whole
    answers has no such edges.
    """
    with _engine(folder, request) as llm:
        captured = POOL.size
        dtype = str(llm.model_config.dtype).removeprefix("torch.")
        long = _SETTLED + request.steps
        for tokens in (long, 1):  # what happens once only
            _answer(llm, request, tokens)
        prefill, prefill_times = _answer(llm, request, 1)
        short, _ = _answer(llm, request, _SETTLED)
        whole, times = _answer(llm, request, long)
    return Measured(
        Sample(1, prefill, sum(prefill_times)),
        Sample(request.steps, _difference(whole, short), median(times[_SETTLED:])),
        captured,
        dtype,
    )


def _difference(
    larger: Counter[counts.Asked], smaller: Counter[counts.Asked]
) -> Counter[counts.Asked]:
    """Unlike Counter's own difference it keeps what is negative: a sign of an unsteady count."""
    made = Counter(larger)
    made.subtract(smaller)
    return Counter({asked: count for asked, count in made.items() if count})


def _answer(llm: Any, request: Request, tokens: int) -> tuple[Counter[counts.Asked], list[float]]:
    """Counts of one batch from its arrival to its end, and milliseconds of each engine step."""
    from vllm import SamplingParams

    draw = random.Random(0)
    engine = llm.llm_engine
    sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    before, times = counts.snapshot(), []
    for place in range(request.batch):
        prompt = [draw.randrange(3, request.vocabulary) for _ in range(request.prompt_tokens)]
        engine.add_request(str(place), {"prompt_token_ids": prompt}, sampling)
    while engine.has_unfinished_requests():
        start = time.perf_counter()
        engine.step()
        times.append((time.perf_counter() - start) * 1e3)
    return _difference(counts.snapshot(), before), times


@contextmanager
def _engine(folder: str, request: Request) -> Iterator[Any]:
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    length = request.prompt_tokens + _SETTLED + request.steps
    llm = LLM(
        model=folder,
        dtype=request.dtype,
        load_format=request.load_format,
        enforce_eager=request.eager,
        skip_tokenizer_init=True,
        max_model_len=length,
        max_num_seqs=request.batch,
        max_num_batched_tokens=max(2048, request.batch * request.prompt_tokens, length),
        kv_cache_memory_bytes=_CACHE_BYTES,
        # A prompt is run more than once, and each time as a whole.
        enable_prefix_caching=False,
        seed=0,
        **({"limit_mm_per_prompt": {"image": 0, "video": 0}} if request.pictures else {}),
    )
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        cleanup_dist_env_and_memory()
