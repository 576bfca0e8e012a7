# SPDX-License-Identifier: Apache-2.0
"""Decode speed of the emulated device against HF transformers, and what the plugin itself costs.

    uv run python benchmarks/throughput.py [--json]

SmolLM2-135M-Instruct in float32, prompts of 128 tokens, both programs in one run with the same
threads. Only decode steps are counted: the time of a short generation is taken off a long one.
Prints tokens per second and ratios, the time that importing the plugin adds to ``import vllm``, and
the host time of a decode step outside the emulator.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_KUNLUN_DEVICE", "emulated")

import torch

PROMPT_TOKENS = 128
SHORT, LONG = 4, 36
REPEATS = 5


def prompts(batch: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(100, 40_000, (batch, PROMPT_TOKENS), generator=generator).tolist()


def seconds_per_token(generate: Callable[[int], None]) -> float:
    """A long generation less a short one, over the tokens between them: prefill cancels out."""
    elapsed = []
    for count in (SHORT, LONG):
        started = time.perf_counter()
        generate(count)
        elapsed.append(time.perf_counter() - started)
    return (elapsed[1] - elapsed[0]) / (LONG - SHORT)


def compare(
    ours: Callable[[int], None], reference: Callable[[int], None], batch: int
) -> dict[str, float]:
    """Tokens per second of both, and their ratio: medians over repeats that take turns.

    A shared machine drifts by a third within minutes; a repeat of one right after a repeat of the
    other meets the same machine.
    """
    for generate in (ours, reference):
        generate(SHORT)
    pairs = [(seconds_per_token(reference), seconds_per_token(ours)) for _ in range(REPEATS)]
    return {
        "transformers": statistics.median(batch / theirs for theirs, _ in pairs),
        "ours": statistics.median(batch / own for _, own in pairs),
        "ratio": statistics.median(theirs / own for theirs, own in pairs),
    }


def load_transformers(checkpoint: Path) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)


@torch.inference_mode()
def run_transformers(model: Any, batch: int, count: int) -> None:
    tokens = torch.tensor(prompts(batch))
    model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=False,
        max_new_tokens=count,
        min_new_tokens=count,
        pad_token_id=0,
    )


def start_engine(checkpoint: Path) -> Any:
    from vllm import LLM

    return LLM(
        model=str(checkpoint),
        dtype="float32",
        max_model_len=512,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        enable_prefix_caching=False,
        kv_cache_memory_bytes=6 * 2**30,
    )


def run_engine(llm: Any, batch: int, count: int) -> None:
    from vllm import SamplingParams

    llm.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts(batch)],
        SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False),
        use_tqdm=False,
    )


def measure_host_ms(llm: Any, batches: list[int]) -> dict[int, float]:
    """Milliseconds of a decode step outside ``KunlunModelRunner._model_forward`` and sampling."""
    from vllm_kunlun.emulator.device.model_runner import KunlunModelRunner

    inside = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            nonlocal inside
            started = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                inside += time.perf_counter() - started

        return wrapper

    model = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.get_model()
    outside = {}
    originals = KunlunModelRunner._model_forward, KunlunModelRunner._sample, model.compute_logits
    KunlunModelRunner._model_forward = timed(originals[0])
    KunlunModelRunner._sample = timed(originals[1])
    model.compute_logits = timed(originals[2])
    try:
        for batch in batches:
            totals = []
            for count in (SHORT, LONG):
                inside = 0.0
                started = time.perf_counter()
                run_engine(llm, batch, count)
                totals.append(time.perf_counter() - started - inside)
            outside[batch] = (totals[1] - totals[0]) / (LONG - SHORT) * 1e3
    finally:
        KunlunModelRunner._model_forward, KunlunModelRunner._sample = originals[:2]
        del model.compute_logits
    return outside


def measure_import_ms() -> float:
    """What resolving our platform adds to ``import vllm``: median of three fresh processes."""
    program = (
        "import time, vllm\n"
        # vLLM's configuration imports pydantic whatever the platform.
        "from pydantic import BaseModel\n"
        "from vllm.platforms import interface\n"
        "started = time.perf_counter()\n"
        "from vllm_kunlun.platforms.plugin import register\n"
        "register()\n"
        "import vllm_kunlun.platforms.kunlun\n"
        "print((time.perf_counter() - started) * 1e3)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "VLLM_PLUGINS": "none"},
        )
        for _ in range(3)
    ]
    return statistics.median(float(each.stdout.split()[-1]) for each in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()

    from vllm_kunlun.cli.weights import smollm2

    checkpoint = smollm2()
    model, llm = load_transformers(checkpoint), start_engine(checkpoint)
    decode = {
        batch: compare(
            partial(run_engine, llm, batch), partial(run_transformers, model, batch), batch
        )
        for batch in (1, 16)
    }
    del model
    host = measure_host_ms(llm, [1, 16, 256])
    result = {
        "threads": torch.get_num_threads(),
        "decode_tokens_per_s": decode,
        "import_ms": measure_import_ms(),
        "host_ms_per_step": host,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"SmolLM2-135M float32, {PROMPT_TOKENS}-token prompts, {result['threads']} threads")
    print("batch   ours tok/s   transformers tok/s   ratio")
    for batch, speed in decode.items():
        print(
            f"{batch:5d} {speed['ours']:12.1f} {speed['transformers']:20.1f} {speed['ratio']:7.2f}"
        )
    print(f"the plugin adds {result['import_ms']:.0f} ms to `import vllm`")
    print("host time of a decode step outside the emulator:")
    for batch, milliseconds in host.items():
        print(f"  batch {batch:3d}: {milliseconds:.2f} ms")


if __name__ == "__main__":
    main()
