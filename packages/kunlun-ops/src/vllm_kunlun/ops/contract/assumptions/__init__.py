# SPDX-License-Identifier: Apache-2.0
"""What the emulator takes for granted without having seen it on a card.

Each point of the vendor-op contract that is inferred (tag ``I``) or known from history only (``H``)
and that the emulator had to decide, with the probe that settles it; one file per area. When a probe
says otherwise, change the emulator, its test and the callers, and drop the entry.
"""

from vllm_kunlun.ops.contract.assumptions.activation import ACTIVATION
from vllm_kunlun.ops.contract.assumptions.assumption import Assumption
from vllm_kunlun.ops.contract.assumptions.attention import ATTENTION
from vllm_kunlun.ops.contract.assumptions.cache import CACHE
from vllm_kunlun.ops.contract.assumptions.flash_attn import FLASH_ATTN
from vllm_kunlun.ops.contract.assumptions.gdn import GDN
from vllm_kunlun.ops.contract.assumptions.int4 import INT4
from vllm_kunlun.ops.contract.assumptions.int8 import INT8
from vllm_kunlun.ops.contract.assumptions.lora import LORA
from vllm_kunlun.ops.contract.assumptions.mla import MLA
from vllm_kunlun.ops.contract.assumptions.moe import MOE
from vllm_kunlun.ops.contract.assumptions.norm import NORM
from vllm_kunlun.ops.contract.assumptions.rotary import ROTARY
from vllm_kunlun.ops.contract.assumptions.sampling import SAMPLING

__all__ = ["ASSUMPTIONS", "Assumption"]

ASSUMPTIONS: tuple[Assumption, ...] = (
    *CACHE,
    *ATTENTION,
    *MLA,
    *NORM,
    *ACTIVATION,
    *ROTARY,
    *MOE,
    *INT8,
    *INT4,
    *SAMPLING,
    *GDN,
    *LORA,
    *FLASH_ATTN,
)
"""In the order of the contract's sections."""
