# SPDX-License-Identifier: Apache-2.0
"""Perplexity of SmolLM2-135M in packed formats, each through the engine in float32.

    python benchmarks/quantised_perplexity.py [scheme ...]

The text is Python's own help (``pydoc_data.topics``), 10 windows of 480 tokens. The quantiser is
the tests' own rounding to nearest: the numbers compare formats, not what better quantisers reach.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_KUNLUN_DEVICE", "emulated")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


from support import quantised, smollm2, text
from support.engine import engine
from support.quantised import Scheme
from transformers import AutoTokenizer

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


def main(chosen: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2.checkpoint())
    tokens = tokenizer(text.manual()[: 16 * WINDOWS * TOKENS])["input_ids"]
    pieces = text.windows(tokens, TOKENS, WINDOWS)
    for name, scheme in SCHEMES.items():
        if chosen and not any(part in name for part in chosen):
            continue
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = smollm2.checkpoint()
            if scheme is not None:
                checkpoint, _ = quantised.write(checkpoint, Path(folder), scheme)
            with engine(checkpoint, max_model_len=512, kv_cache_memory_bytes=512 * 2**20) as llm:
                value = text.perplexity(llm, pieces)
        print(f"{name:40}{value:9.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
