# SPDX-License-Identifier: Apache-2.0
"""A grammar's bit mask on the logits of a step: our formula beside xgrammar's CPU kernel.

    python benchmarks/grammar_mask.py [--rows 256] [--vocabulary 152064] [--threads 2]

Both mask the same logits in turn, and the shortest of several rounds counts: with half of all
tokens allowed at random, with a hundred allowed (what a schema leaves), and with every second row
under a grammar.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import xgrammar

from vllm_kunlun.ops.vllm_modules.structured_output import mask_logits

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=152_064)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows, words = options.rows, -(-options.vocabulary // 32)
    half = torch.randint(-(2**31), 2**31, (rows, words), dtype=torch.int64).to(torch.int32)
    few = torch.zeros_like(half)
    few[:, :: max(1, words // 100)] = 1
    logits = torch.randn(rows, options.vocabulary)
    some = torch.arange(0, rows, 2, dtype=torch.int32)
    print(f"{rows} x {options.vocabulary}, {options.threads} threads; times xgrammar's speed")
    for name, mask, which in (
        ("half of the tokens", half, None), ("a hundred tokens", few, None),
        ("every second row", half, some),
    ):  # fmt: skip
        indices = None if which is None else which.tolist()
        ours, theirs = in_turn(
            lambda: mask_logits(logits, mask if which is None else mask[which], which),  # noqa: B023
            lambda: xgrammar.apply_token_bitmask_inplace(logits, mask, indices=indices),  # noqa: B023
        )
        print(f"{name:20} ours {ours:7.1f} ms   xgrammar {theirs:7.1f} ms   {theirs / ours:.2f}x")


def in_turn(*ways: Callable[[], object]) -> list[float]:
    """The shortest of :data:`ROUNDS` runs of each, in milliseconds, taking turns."""
    best = [float("inf")] * len(ways)
    for _ in range(ROUNDS):
        for index, way in enumerate(ways):
            started = time.perf_counter()
            way()
            best[index] = min(best[index], 1e3 * (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    main()
