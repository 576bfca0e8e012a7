# SPDX-License-Identifier: Apache-2.0
"""The exponential function inside compiled loops."""

from __future__ import annotations

import numba
import numpy as np

from vllm_kunlun.ops.compiled import FAST

__all__ = ["exponential"]

_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts, of which the first has so few bits that its product with an integer is exact.
_LN_2_HIGH = np.float32(0.693359375)
_LN_2_LOW = np.float32(-2.12194440e-4)
# Where 2^n is a normal number.
_LOWEST = np.float32(-87.0)
_HIGHEST = np.float32(88.0)


@numba.njit(fastmath=FAST)
def exponential(row, bits):  # type: ignore[no-untyped-def]
    """``e^row``, limited to [e^-87, e^88], as ``row * bits.view(float32)``; a NaN stays one.

    ``e^x = 2^n e^r`` with ``|r| <= ln 2 / 2`` and a polynomial for ``e^r`` (Cephes' expf, error
    below 1e-7): a loop over it becomes vector instructions, a call of the library's exp would not.

    Shapes: row float32 ``[N]``, then holds ``e^r``; bits int32 ``[N]``, then those of ``2^n``.
    """
    for t in range(row.shape[0]):
        x = row[t]
        x = _LOWEST if x < _LOWEST else x  # not max(): a NaN stays one
        x = _HIGHEST if x > _HIGHEST else x
        n = np.floor(x * _LOG2_E + np.float32(0.5))
        r = x - n * _LN_2_HIGH - n * _LN_2_LOW
        y = np.float32(1.9875691500e-4)
        y = y * r + np.float32(1.3981999507e-3)
        y = y * r + np.float32(8.3334519073e-3)
        y = y * r + np.float32(4.1665795894e-2)
        y = y * r + np.float32(1.6666665459e-1)
        y = y * r + np.float32(5.0000001201e-1)
        row[t] = y * r * r + r + np.float32(1)
        bits[t] = (np.int32(n) + np.int32(127)) << np.int32(23)
