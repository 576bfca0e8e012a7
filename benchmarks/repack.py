# SPDX-License-Identifier: Apache-2.0
"""Repacking 4-bit weights, beside a plain copy of the same tensor and the straightforward way.

    python benchmarks/repack.py [MiB] [--check]

Prints GB/s (bytes of the packed tensor over the best of five times). "straightforward" unpacks
every nibble into an int32, gathers them into their new order, shifts and sums. With --check the
exit code is 1 unless each conversion reaches a third of the copy and ten times that way.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vllm_kunlun.quantization.layouts import repack
from vllm_kunlun.quantization.layouts.repack import FAST, NORMAL

ROWS = 4096
SHIFTS = torch.arange(0, 32, 4, dtype=torch.int32)
AWQ_TO_NORMAL = [4, 0, 5, 1, 6, 2, 7, 3]
AWQ_TO_FAST = [
    n + 8 * i for i in range(4) for n in [32, 0, 36, 4, 33, 1, 37, 5, 34, 2, 38, 6, 35, 3, 39, 7]
]
GPTQ_TO_FAST = [i + d for i in range(32) for d in (32, 0)]


def unpack_shift_sum(words: Tensor, order: list[int]) -> Tensor:
    """One nibble an int32, in the new order, shifted and summed.

    Shapes: words int32 ``[R, C]`` -> ``[R, C]``.
    """
    nibbles = ((words.unsqueeze(-1) >> SHIFTS) & 15).flatten(1).unflatten(1, (-1, len(order)))
    ordered = nibbles[..., order].flatten(1).unflatten(1, (-1, 8))
    return (ordered << SHIFTS).sum(-1, dtype=torch.int32)


def transpose_shift_sum(words: Tensor) -> Tensor:
    """Nibbles along the input to nibbles along the output, the same way.

    Shapes: words int32 ``[R, C]`` -> ``[8 R, C / 8]``.
    """
    nibbles = (words.unsqueeze(1) >> SHIFTS.view(1, 8, 1)) & 15
    by_output = nibbles.flatten(0, 1).unflatten(1, (-1, 8))
    return (by_output << SHIFTS).sum(-1, dtype=torch.int32)


CONVERSIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "AWQ to normal": (
        lambda w: repack.awq_to_kunlun(w, NORMAL),
        lambda w: unpack_shift_sum(w, AWQ_TO_NORMAL),
    ),
    "AWQ to fast": (
        lambda w: repack.awq_to_kunlun(w, FAST),
        lambda w: unpack_shift_sum(w, AWQ_TO_FAST),
    ),
    "GPTQ to fast": (
        lambda w: repack.gptq_to_kunlun(w, FAST),
        lambda w: unpack_shift_sum(w, GPTQ_TO_FAST),
    ),
    "inputs to outputs": (repack.pack_outputs, transpose_shift_sum),
}


def gigabytes_a_second(call: Callable[[Tensor], Tensor], words: Tensor, repeats: int = 5) -> float:
    """Bytes of ``words`` (int32, any shape) over the least time of a call, in GB/s."""
    call(words)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(words)
        times.append(time.perf_counter() - start)
    return words.numel() * words.element_size() / min(times) / 1e9


def main(arguments: list[str]) -> int:
    sizes = [int(each) for each in arguments if each.isdigit()]
    words = torch.randint(
        -(2**31), 2**31, (ROWS, (sizes or [128])[0] * 2**20 // 4 // ROWS), dtype=torch.int64
    ).to(torch.int32)
    print(f"int32 {tuple(words.shape)}, {torch.get_num_threads()} threads, GB/s")
    print(f"{'':20}{'copy':>8}{'repack':>8}{'of copy':>9}{'straightforward':>17}{'times':>7}")
    enough = True
    for name, (ours, straightforward) in CONVERSIONS.items():
        assert torch.equal(ours(words[:64]), straightforward(words[:64])), name
        copy = gigabytes_a_second(torch.clone, words)
        quick = gigabytes_a_second(ours, words)
        slow = gigabytes_a_second(straightforward, words, repeats=2)
        enough &= quick > copy / 3 and quick > 10 * slow
        print(f"{name:20}{copy:8.1f}{quick:8.1f}{quick / copy:9.2f}{slow:17.2f}{quick / slow:7.0f}")
    return 1 if "--check" in arguments and not enough else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
