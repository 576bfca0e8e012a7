# SPDX-License-Identifier: Apache-2.0
"""Each compiled loop against its formula, word by word."""

from __future__ import annotations

import numpy as np
import pytest

from vllm_kunlun.quantization.layouts import loops, nibbles

ROWS, WORDS = 3, 24


def random(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**32, (rows, columns), dtype=np.uint32)


def words(*values: int) -> list[int]:
    return [value & 0xFFFFFFFF for value in values]


@pytest.mark.parametrize("name", ["awq_to_normal", "normal_to_awq", "swap_nibbles"])
def test_from_one_word_to_one(name):
    source = random(1, WORDS)[0]
    target = np.zeros_like(source)
    getattr(loops, name)(source, target)
    assert target.tolist() == words(*(getattr(nibbles, name)(word) for word in source.tolist()))


@pytest.mark.parametrize(
    "name", ["awq_to_fast", "sequential_to_fast", "fast_to_awq", "fast_to_sequential"]
)
def test_words_4_apart_and_neighbours(name):
    source = random(ROWS, WORDS)
    target = np.zeros_like(source)
    getattr(loops, name)(source, target)
    for row, came in zip(source.tolist(), target.tolist(), strict=True):
        for at in range(0, WORDS, 8):
            for pair in range(4):
                apart, near = (at + pair, at + pair + 4), (at + 2 * pair, at + 2 * pair + 1)
                of, to = (apart, near) if name.endswith("fast") else (near, apart)
                expected = words(*getattr(nibbles, name)(*(row[index] for index in of)))
                assert [came[index] for index in to] == expected


def test_turning_words_of_8_rows():
    source = random(2, 16)
    target = np.zeros((16, 2), dtype=np.uint32)
    loops.pack_outputs(source, target)
    for row in range(2):
        for column in range(2):
            for place in range(8):
                fields = source[row, 8 * column : 8 * column + 8].tolist()
                expected = sum((w >> 4 * place & 15) << 4 * i for i, w in enumerate(fields))
                assert target[8 * row + place, column] == expected
    back = np.zeros_like(source)
    loops.pack_inputs(target, back)
    assert (back == source).all()
