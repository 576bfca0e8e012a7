# SPDX-License-Identifier: Apache-2.0
"""Writes to the dense cache: the vendor's functions, arguments passed as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import call_form, function

__all__ = ["reshape_and_cache", "reshape_and_cache_flash"]


def reshape_and_cache_flash(
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    *,
    BLHD_LAYOUT: bool = True,
) -> None:
    """Write token ``t`` into slot ``slot_mapping[t]`` of the caches; a negative slot is skipped.

    Shapes: key, value ``[T, KVH, D]``; caches ``[blocks, KVH, block_size, D]``
    (``BLHD_LAYOUT=False``) or ``[blocks, block_size, KVH, D]``; slot_mapping int64 or int32
    ``[T]``. The caches' first stride is honoured.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    VendorLibraryError: the library refused ``BLHD_LAYOUT=False`` (card finding ``kv-cache-write``).
    Source: contract section 2.
    """
    arguments = (key, value, key_cache, value_cache, slot_mapping)
    if BLHD_LAYOUT:
        function("kunlun_ops", "reshape_and_cache_flash")(*arguments, BLHD_LAYOUT=BLHD_LAYOUT)
    else:
        call_form(
            "kv-cache-write",
            "kunlun_ops",
            "reshape_and_cache_flash",
            *arguments,
            BLHD_LAYOUT=BLHD_LAYOUT,
        )


def reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor
) -> None:
    """Write token ``t`` into slot ``slot_mapping[t]`` of the caches; a negative slot is skipped.

    Shapes: key, value ``[T, KVH, D]``; caches ``[blocks, KVH, block_size, D]``, contiguous: pages
    are counted from the first element and no stride is looked at; slot_mapping int64 or int32
    ``[T]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    VendorLibraryError: the library refused the call (card finding ``kv-cache-write``).
    Source: contract section 2.
    """
    call_form(
        "kv-cache-write",
        "kunlun_ops",
        "reshape_and_cache",
        key,
        value,
        key_cache,
        value_cache,
        slot_mapping,
    )
