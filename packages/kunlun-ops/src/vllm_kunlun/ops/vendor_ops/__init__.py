# SPDX-License-Identifier: Apache-2.0
"""The adapter: every function of the vendor that we call, by its name.

One code path for card and emulator: :mod:`vllm_kunlun.ops.vendor_ops.library` chooses which one
answers. What an area provides is its ``__all__``.
"""

from vllm_kunlun.ops.vendor_ops.activation import *
from vllm_kunlun.ops.vendor_ops.attention import *
from vllm_kunlun.ops.vendor_ops.cache import *
from vllm_kunlun.ops.vendor_ops.causal_conv1d import *
from vllm_kunlun.ops.vendor_ops.embedding import *
from vllm_kunlun.ops.vendor_ops.flash_attn import *
from vllm_kunlun.ops.vendor_ops.gdn import *
from vllm_kunlun.ops.vendor_ops.indexer import *
from vllm_kunlun.ops.vendor_ops.int4 import *
from vllm_kunlun.ops.vendor_ops.int8 import *
from vllm_kunlun.ops.vendor_ops.lora import *
from vllm_kunlun.ops.vendor_ops.mla import *
from vllm_kunlun.ops.vendor_ops.mla_prefill import *
from vllm_kunlun.ops.vendor_ops.moe import *
from vllm_kunlun.ops.vendor_ops.norm import *
from vllm_kunlun.ops.vendor_ops.rotary import *
from vllm_kunlun.ops.vendor_ops.sampling import *
