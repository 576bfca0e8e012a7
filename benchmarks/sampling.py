# SPDX-License-Identifier: Apache-2.0
"""Time of drawing one token of each request, by the noise that torch makes and by ours.

    uv run python benchmarks/sampling.py [--requests 256] [--tokens 151936] [--json]

Both draw by the exponential race from given probabilities: with ``Tensor.exponential_``, and as the
sampler does (vllm_kunlun.ops.torch_ops.random_draw). Least of five runs, without seeds and with one
for each request. On a card the first runs on the host.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from vllm_kunlun.ops.conformance.provenance import torch_device
from vllm_kunlun.ops.torch_ops import random_draw

RUNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=151936)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    device = torch_device()
    probs = torch.randn(options.requests, options.tokens, device=device).mul_(4).softmax(-1)
    generators = {r: torch.Generator(device).manual_seed(r) for r in range(options.requests)}
    result = {
        "requests": options.requests,
        "tokens": options.tokens,
        "device": str(device),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "seconds": {
            f"{noise}, {seeds}": _least_seconds(draw, probs, given)
            for noise, draw in (("exponential_", _by_torch), ("random_draw", random_draw.draw))
            for seeds, given in (("no seeds", {}), ("a seed each", generators))
        },
    }
    print(json.dumps(result, indent=None if options.json else 2))


def _by_torch(probs: torch.Tensor, generators: Mapping[int, torch.Generator]) -> torch.Tensor:
    race = torch.empty_like(probs)
    if len(generators) != len(probs):
        race.exponential_()
    for row, generator in generators.items():
        race[row].exponential_(generator=generator)
    return probs.div_(race).argmax(dim=-1)


def _least_seconds(
    draw: Callable[[torch.Tensor, Mapping[int, torch.Generator]], torch.Tensor],
    probs: torch.Tensor,
    generators: Mapping[int, torch.Generator],
) -> float:
    best = float("inf")
    for _ in range(RUNS):
        weights = probs.clone()
        started = time.perf_counter()
        draw(weights, generators).tolist()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return best


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


if __name__ == "__main__":
    main()
