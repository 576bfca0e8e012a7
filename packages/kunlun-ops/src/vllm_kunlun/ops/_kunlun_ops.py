# SPDX-License-Identifier: Apache-2.0
"""The manual's import path of the vendor's functions: ``KunlunOps.<function>``."""

from vllm_kunlun.ops.vendor_ops.by_attribute import KunlunOps

__all__ = ["KunlunOps"]
