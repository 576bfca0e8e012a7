# SPDX-License-Identifier: Apache-2.0
"""Perplexity and size of SmolLM2-135M in each format, through the engine in float32.

    python benchmarks/quantised_perplexity.py [scheme ...]

The text is Python's own help (``pydoc_data.topics``), 10 windows of 480 tokens. The quantiser is
the tests' own rounding to nearest: the numbers compare formats, not what better quantisers reach.
The size is that of the 210 linear layers as they are held, the card's copies of scales included.
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


import torch
from support import quantised, smollm2, text, w8a8
from support.engine import engine
from support.quantised import Scheme
from transformers import AutoTokenizer

WINDOWS, TOKENS = 10, 480

SCHEMES: dict[str, Scheme | w8a8.Scheme | None] = {
    "float32": None,
    "W8A8, dynamic": w8a8.Scheme(),
    "W8A8, static, down_proj in float": w8a8.Scheme(
        static=True, keep=(*w8a8.Scheme().keep, "down_proj")
    ),
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
    tokens = tokenizer(text.manual()[: 24 * WINDOWS * TOKENS])["input_ids"]
    pieces = text.windows(tokens, TOKENS, WINDOWS)
    for name, scheme in SCHEMES.items():
        if chosen and not any(part in name for part in chosen):
            continue
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = smollm2.checkpoint()
            if isinstance(scheme, Scheme):
                checkpoint, _ = quantised.write(checkpoint, Path(folder), scheme)
            elif scheme is not None:
                calibration = text.windows(tokens[WINDOWS * TOKENS :], 256, 8)
                checkpoint = w8a8.quantise(checkpoint, Path(folder) / "q", scheme, calibration)
            with engine(checkpoint, max_model_len=512, kv_cache_memory_bytes=512 * 2**20) as llm:
                value = text.perplexity(llm, pieces)
                size = llm.apply_model(_bytes_of_projections)[0]
        print(f"{name:40}{value:9.3f}{size / 1e6:9.1f} MB", flush=True)


def _bytes_of_projections(model: torch.nn.Module) -> int:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return sum(t.untyped_storage().nbytes() for name, t in tensors if "_proj." in name)


if __name__ == "__main__":
    main(sys.argv[1:])
