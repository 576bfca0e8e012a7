# SPDX-License-Identifier: Apache-2.0
"""Stands in for the vendor's ``flash_attn``: the emulator answers the two functions named."""

from support.vendor_calls import recorded

from vllm_kunlun.emulator import flash_attn

flash_attn_func = recorded("flash_attn.flash_attn_func", flash_attn.flash_attn_func)
flash_attn_varlen_func = recorded(
    "flash_attn.flash_attn_varlen_func", flash_attn.flash_attn_varlen_func
)
