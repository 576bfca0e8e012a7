# SPDX-License-Identifier: Apache-2.0
"""Decode time, and cache of a token, over the length of the context, through the engine.

    uv run python benchmarks/decode_context.py [deepseek-v3 | deepseek-v3.2 | qwen3-next] [--json]

A random model of few layers in float32, one request at a time: the time of a decode step is what 32
steps take beyond the prefill, divided by 32. DeepSeek-V3 has heads as wide as the real model's (128
+ 64, latent 512); V3.2 has smaller ones and takes the 256 best keys. The gated delta nets of
Qwen3-Next are also timed by themselves: their state does not grow.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_KUNLUN_DEVICE", "emulated")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CONTEXTS = (1024, 2048, 4096, 8192)
STEPS = 32
TOPK = 256
LATENT = ("deepseek-v3", "deepseek-v3.2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=LATENT[0], choices=[*LATENT, "qwen3-next"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    import torch
    from support.engine import engine
    from vllm import SamplingParams

    folder = _checkpoint(options.model)
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
        if options.model in LATENT:
            result["cache_bytes_per_token_and_layer"] = _cache_bytes(llm)
        linear = [0.0]
        llm.apply_model(lambda model: _time_gated_delta_nets(model, linear))

        def seconds(prompt: list[int], count: int) -> tuple[float, float]:
            sampling = SamplingParams(
                temperature=0, max_tokens=count, ignore_eos=True, detokenize=False
            )
            linear[0], started = 0.0, time.perf_counter()
            llm.generate({"prompt_token_ids": prompt}, sampling, use_tqdm=False)
            return time.perf_counter() - started, linear[0]

        for context in CONTEXTS:
            prompt = torch.randint(3, 300, (context,), generator=generator).tolist()
            seconds(prompt, 1)  # from here on the prompt is in the prefix cache
            runs = []
            for _ in range(3):
                long, short = seconds(prompt, 1 + STEPS), seconds(prompt, 1)
                runs.append([(a - b) / STEPS * 1e3 for a, b in zip(long, short, strict=True)])
            result[f"decode_ms_at_{context}"] = min(run[0] for run in runs)
            if linear[0]:
                result[f"linear_layers_ms_at_{context}"] = min(run[1] for run in runs)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:36} {value:10.2f}")


def _checkpoint(model: str) -> Path:
    from support import checkpoints, sparse

    folder = Path(tempfile.mkdtemp())
    if model == "qwen3-next":
        configuration = copy.deepcopy(checkpoints.HYBRID_CONFIGURATIONS[model])
        configuration.max_position_embeddings = 16384
        return checkpoints.write_configuration(configuration, folder)
    if model == "deepseek-v3.2":
        sparse.write(folder, TOPK)
    else:
        checkpoints.write(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 16384
    config["rope_scaling"]["factor"] = 256.0
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _cache_bytes(llm: Any) -> float:
    worker = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
    config = llm.llm_engine.vllm_config
    size = sum(cache.nbytes for cache in worker.model_runner.kv_caches)
    layers = config.model_config.hf_config.num_hidden_layers
    return size / (config.cache_config.num_gpu_blocks * 64 * layers)


def _time_gated_delta_nets(model: Any, total: list[float]) -> None:
    """Add up in ``total`` what the gated delta nets take; the device is the host."""

    def begin(*_: Any) -> None:
        total[0] -= time.perf_counter()

    def end(*_: Any) -> None:
        total[0] += time.perf_counter()

    for module in model.modules():
        if "GatedDeltaNet" in type(module).__name__:
            module.register_forward_pre_hook(begin)
            module.register_forward_hook(end)


if __name__ == "__main__":
    main()
