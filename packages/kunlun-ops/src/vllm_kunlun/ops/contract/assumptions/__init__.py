# SPDX-License-Identifier: Apache-2.0
"""What the emulator takes for granted without having seen it on a card.

Each point of the vendor-op contract that is inferred (tag ``I``) or known from history only (``H``)
and that the emulator had to decide, with the probe that settles it; one file per area. When a probe
says otherwise, change the emulator, its test and the callers, and drop the entry.
"""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption
from vllm_kunlun.ops.contract.assumptions.attention import DENSE
from vllm_kunlun.ops.contract.assumptions.gdn import GDN
from vllm_kunlun.ops.contract.assumptions.int8_int4 import QUANTISATION
from vllm_kunlun.ops.contract.assumptions.lora import LORA
from vllm_kunlun.ops.contract.assumptions.mla import MLA
from vllm_kunlun.ops.contract.assumptions.moe import MOE

__all__ = ["ASSUMPTIONS", "Assumption"]

ASSUMPTIONS: tuple[Assumption, ...] = (*DENSE, *GDN, *LORA, *MLA, *MOE, *QUANTISATION)
