# SPDX-License-Identifier: Apache-2.0
"""A vector is loaded from an odd address, and a function of LLVM adds its lanes."""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vllm_kunlun.emulator.kernels.intrinsics import call, load


@intrinsic
def _sum_of_four(context, items, offset):
    def generate(context, builder, signature, arguments):
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        word = ir.IntType(32)
        vector = load(builder, start, arguments[1], ir.VectorType(word, 4))
        return call(builder, "llvm.vector.reduce.add.v4i32", word, vector)

    return types.int32(items, offset), generate


@numba.njit
def _sum(items, offset):
    return _sum_of_four(items, offset)


def test_four_words_at_any_address():
    items = np.random.default_rng(0).integers(0, 64, 40, dtype=np.int8)
    for offset in (0, 1, 7, 24):
        expected = items[offset : offset + 16].copy().view(np.int32).sum(dtype=np.int64)
        assert np.int32(_sum(items, offset)) == np.int64(expected).astype(np.int32)
