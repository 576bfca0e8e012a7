# SPDX-License-Identifier: Apache-2.0
"""Perplexity of SmolLM2-135M in packed formats, each through the engine in float32.

    python benchmarks/quantised_perplexity.py [scheme ...]

The text is Python's own help (``pydoc_data.topics``), 10 windows of 480 tokens. The quantiser is
the tests' own rounding to nearest: the numbers compare formats, not what better quantisers reach.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_KUNLUN_DEVICE", "emulated")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from pydoc_data.topics import topics

from support import quantised, smollm2
from support.engine import engine
from support.quantised import Scheme
from transformers import AutoTokenizer
from vllm import SamplingParams

WINDOWS, TOKENS = 10, 480

SCHEMES: dict[str, Scheme | None] = {
    "float32": None,
    "AWQ, 4 bits, groups of 64": Scheme("awq", group=64),
    "GPTQ, 4 bits, groups of 64": Scheme("gptq", group=64),
    "GPTQ, 4 bits, groups of 64, desc_act": Scheme("gptq", group=64, desc_act=True),
    "GPTQ, 8 bits, groups of 64": Scheme("gptq", bits=8, group=64, symmetric=True),
    "W4A16, groups of 64, symmetric": Scheme("compressed-tensors", group=64, symmetric=True),
    "W4A16, groups of 64, zero points": Scheme("compressed-tensors", group=64),
    "W4A16, by channel, symmetric": Scheme("compressed-tensors", group=-1, symmetric=True),
}


def windows() -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(smollm2.checkpoint())
    text = "\n".join(topics[name] for name in sorted(topics))
    tokens = tokenizer(text[: 16 * WINDOWS * TOKENS])["input_ids"]
    return [tokens[i * TOKENS : (i + 1) * TOKENS] for i in range(WINDOWS)]


def perplexity(checkpoint: Path, prompts: list[list[int]]) -> tuple[float, int]:
    """``exp`` of the mean negative log-probability, and over how many tokens."""
    parameters = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    with engine(checkpoint, max_model_len=512, kv_cache_memory_bytes=512 * 2**20) as llm:
        outputs = llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts], parameters, use_tqdm=False
        )
    values = [
        entry[token].logprob
        for prompt, output in zip(prompts, outputs, strict=True)
        for token, entry in zip(prompt[1:], output.prompt_logprobs[1:], strict=True)
    ]
    return math.exp(-sum(values) / len(values)), len(values)


def main(chosen: list[str]) -> None:
    prompts = windows()
    for name, scheme in SCHEMES.items():
        if chosen and not any(part in name for part in chosen):
            continue
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = smollm2.checkpoint()
            if scheme is not None:
                checkpoint, _ = quantised.write(checkpoint, Path(folder), scheme)
            value, count = perplexity(checkpoint, prompts)
        print(f"{name:40}{value:9.3f}   over {count} tokens", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
