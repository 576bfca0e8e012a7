# SPDX-License-Identifier: Apache-2.0
"""What every vendor function must compute, as data: cases with expected values in float64.

The same cases run on the vendor's library, where there is a card, and on the emulator elsewhere.
No case reads the emulator: each carries its own formula. ``inventory`` asks the emulator which
functions it has.
"""

from vllm_kunlun.ops.conformance.case import Call, Case, Inputs, Outcome
from vllm_kunlun.ops.conformance.run import Result, compare, run

__all__ = ["Call", "Case", "Inputs", "Outcome", "Result", "compare", "run"]
