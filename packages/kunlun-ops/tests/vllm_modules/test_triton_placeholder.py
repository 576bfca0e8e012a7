# SPDX-License-Identifier: Apache-2.0
"""Against a search."""

from __future__ import annotations

from vllm_kunlun.ops.vllm_modules import triton_placeholder


def test_the_next_power_of_two() -> None:
    function = triton_placeholder.missing({})["next_power_of_2"]
    powers = [2**exponent for exponent in range(12)]
    for number in range(1, 1030):
        assert function(number) == next(power for power in powers if power >= number)
