# SPDX-License-Identifier: Apache-2.0
"""Probes: cases small enough to work by hand, each settling one assumption of the emulator.

Where a library may do otherwise in a way that is known, the probe names it, so that a report
from a card says what the library does and not only that it differs.
"""

from vllm_kunlun.ops.conformance.case import Case
from vllm_kunlun.ops.conformance.probes.attention_decode import DECODE
from vllm_kunlun.ops.conformance.probes.attention_merge import MERGE
from vllm_kunlun.ops.conformance.probes.attention_prefill import PREFILL
from vllm_kunlun.ops.conformance.probes.norm import NORM
from vllm_kunlun.ops.conformance.probes.rotary import ROTARY
from vllm_kunlun.ops.conformance.probes.sampling import SAMPLING

__all__ = ["PROBES"]

PROBES: tuple[Case, ...] = (*DECODE, *MERGE, *NORM, *PREFILL, *ROTARY, *SAMPLING)
