# SPDX-License-Identifier: Apache-2.0
"""The adapter's functions as attributes of a class, as the vendor's manual calls them."""

from __future__ import annotations

from typing import Any

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract.functions import called

__all__ = ["KunlunOps"]

_NAMES = {each.adapter_name for each in called()}


class _VendorFunctions(type):
    def __getattr__(cls, name: str) -> Any:
        return getattr(vendor_ops, name)

    def __dir__(cls) -> list[str]:
        return sorted({*super().__dir__(), *_NAMES})


class KunlunOps(metaclass=_VendorFunctions):
    """Every function of :mod:`vllm_kunlun.ops.vendor_ops` as an attribute.

    To wrap a vendor function that the adapter lacks, subclass this and add a static method.
    """
