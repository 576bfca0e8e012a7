# SPDX-License-Identifier: Apache-2.0
"""Decode time and cache of latent attention over the length of the context, through the engine.

    uv run python benchmarks/mla_context.py [--sparse] [--json]

A random DeepSeek-V3 with heads as wide as the real model's (128 + 64, latent 512), few layers,
float32. One request at a time: the time of a decode step is what 32 steps take beyond the prefill,
divided by 32. With `--sparse` a random DeepSeek-V3.2 of smaller heads, top-k 256.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_KUNLUN_DEVICE", "emulated")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CONTEXTS = (1024, 2048, 4096, 8192)
STEPS = 32
TOPK = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sparse", action="store_true", help="DeepSeek-V3.2")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    import torch
    from support import checkpoints, sparse
    from support.engine import engine
    from vllm import SamplingParams

    folder = Path(tempfile.mkdtemp())
    if options.sparse:
        sparse.write(folder, TOPK)
    else:
        checkpoints.write("deepseek-v3", folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 16384
    config["rope_scaling"]["factor"] = 256.0
    (folder / "config.json").write_text(json.dumps(config))

    generator = torch.Generator().manual_seed(0)
    result: dict[str, float] = {}
    with engine(
        folder,
        max_model_len=8448,
        max_num_seqs=1,
        max_num_batched_tokens=2048,
        kv_cache_memory_bytes=512 * 2**20,
        enable_prefix_caching=True,
    ) as llm:
        runner = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
        caches = runner.model_runner.kv_caches
        blocks = llm.llm_engine.vllm_config.cache_config.num_gpu_blocks
        result["cache_bytes_per_token_and_layer"] = sum(cache.nbytes for cache in caches) / (
            blocks * 64 * config["num_hidden_layers"]
        )

        def seconds(prompt: list[int], count: int) -> float:
            sampling = SamplingParams(
                temperature=0, max_tokens=count, ignore_eos=True, detokenize=False
            )
            started = time.perf_counter()
            llm.generate({"prompt_token_ids": prompt}, sampling, use_tqdm=False)
            return time.perf_counter() - started

        for context in CONTEXTS:
            prompt = torch.randint(3, 300, (context,), generator=generator).tolist()
            seconds(prompt, 1)  # from here on the prompt is in the prefix cache
            runs = [seconds(prompt, 1 + STEPS) - seconds(prompt, 1) for _ in range(3)]
            result[f"decode_ms_at_{context}"] = min(runs) / STEPS * 1e3
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:36} {value:10.2f}")


if __name__ == "__main__":
    main()
