# SPDX-License-Identifier: Apache-2.0
"""Values of requests spread over their tokens."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch

from vllm_kunlun.ops.speculation import ragged
from vllm_kunlun.ops.vllm_modules import rejection_sampler as ours

BATCHES = {
    "one": [3],
    "even": [2, 2, 2],
    "mixed": [3, 0, 1, 4, 0, 2],
    "none-at-the-ends": [0, 0, 2, 0],
    "one-each": [1, 1, 1, 1],
}


@pytest.mark.parametrize("batch", sorted(BATCHES))
def test_expansion(batch: str) -> None:
    lengths = BATCHES[batch]
    ends = torch.tensor(list(accumulate(lengths)), dtype=torch.int32)
    values = torch.arange(10.0, 10.0 + len(lengths))
    wanted = [value for value, count in zip(values, lengths, strict=True) for _ in range(count)]
    assert ragged.expand(values, ends, sum(lengths)).tolist() == wanted
    assert ragged.counts(ends).tolist() == lengths
    replaced = ours.expand_batch_to_tokens(values, ends, sum(lengths), 10.0, -1.0)
    assert replaced.tolist() == [-1.0 if value == 10 else float(value) for value in wanted]
