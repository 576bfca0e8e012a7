# SPDX-License-Identifier: Apache-2.0
"""The paged key and value cache: writing it, and reading pages the way the card does."""

from __future__ import annotations

import threading

import torch

from vllm_kunlun.emulator.checks import (
    VendorContractError,
    check_pages,
    check_range,
    check_same,
    check_shape,
    check_tensor,
)
from vllm_kunlun.emulator.functions.step_cache import StepCache, check_values
from vllm_kunlun.emulator.kernels.rows import copy_to_slots

__all__ = [
    "blank_rows_",
    "check_caches",
    "dense_pages",
    "gather_heads",
    "head_rows",
    "reshape_and_cache",
    "reshape_and_cache_flash",
]

WORKSPACE_ELEMENTS = 1 << 25
"""Largest gathered copy whose memory is kept (128 MiB)."""

_SLOT_DTYPES = (torch.int64, torch.int32)
_workspaces = threading.local()


_slots: StepCache[None] = StepCache()
_pages: StepCache[torch.Tensor] = StepCache()


def reshape_and_cache_flash(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    /,
    *,
    BLHD_LAYOUT: bool = True,
) -> None:
    """Write token ``t`` into slot ``slot_mapping[t]``; a negative slot is skipped.

    ``BLHD_LAYOUT=False``: caches ``[blocks, KVH, block_size, D]``, slot ``s`` is
    ``cache[s // bs, :, s % bs]``. ``True``: ``[blocks, block_size, KVH, D]``. The caches' first
    stride is honoured; key cache and value cache may be one tensor.

    Shapes: key and value ``[T, KVH, D]``, slot_mapping int64 or int32 ``[T]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 2, ``kunlun_ops.reshape_and_cache_flash``.
    """
    slots = (key_cache, value_cache, slot_mapping)
    _write("reshape_and_cache_flash", key, value, *slots, heads_first=not BLHD_LAYOUT)


def reshape_and_cache(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    /,
) -> None:
    """As :func:`reshape_and_cache_flash` with ``BLHD_LAYOUT=False``, into dense caches.

    The library counts pages from the first element and looks at no stride.

    Shapes: caches ``[blocks, KVH, block_size, D]``, contiguous; else as there.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 2, ``kunlun_ops.reshape_and_cache``.
    """
    name = "reshape_and_cache"
    for argument, cache in (("key_cache", key_cache), ("value_cache", value_cache)):
        check_tensor(name, argument, cache, dims=4)
    _write(name, key, value, key_cache, value_cache, slot_mapping, heads_first=True)


def _write(
    name: str,
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    *,
    heads_first: bool,
) -> None:
    check_tensor(name, "key", key, dims=3)
    check_same(name, "value", value, key)
    tokens, heads, size = key.shape
    check_tensor(name, "slot_mapping", slot_mapping, _SLOT_DTYPES)
    check_shape(name, "slot_mapping", slot_mapping, (tokens,))
    head_dim, slot_dim = (1, 2) if heads_first else (2, 1)
    for argument, cache in (("key_cache", key_cache), ("value_cache", value_cache)):
        _check_pages(name, argument, cache, key.dtype)
        if cache.shape[head_dim] != heads or cache.shape[3] != size:
            expected = f"pages of {heads} heads of {size}"
            raise VendorContractError(name, argument, expected, tuple(cache.shape))
    check_shape(name, "value_cache", value_cache, key_cache.shape)
    if tokens == 0:
        return
    blocks, block_size = key_cache.shape[0], key_cache.shape[slot_dim]
    slots = blocks * block_size

    def check_slots() -> None:
        check_range(name, "slot_mapping", slot_mapping, slots, low=-(1 << 62))

    check_values(_slots, (name, slots, slot_mapping.dtype), (slot_mapping,), check_slots)
    if not heads_first:
        key_cache, value_cache = key_cache.transpose(1, 2), value_cache.transpose(1, 2)
    copy_to_slots(key, value, key_cache, value_cache, slot_mapping)


def check_caches(
    function: str,
    key_cache: tuple[str, torch.Tensor],
    value_cache: tuple[str, torch.Tensor],
    dtype: torch.dtype,
    page: tuple[int | None, int | None, int],
) -> None:
    """Hold that the attention functions can read both caches.

    They take the pointer as densely packed pages. So the pages are dense, or alternate with those
    of the other cache, in which case the block table counts pages of both.

    Shapes: both caches ``[blocks, *page]``; None in ``page`` stands for any size.
    Raises: VendorContractError: they are of another dtype or shape, or laid out otherwise.
    """
    for argument, cache in (key_cache, value_cache):
        _check_pages(function, argument, cache, dtype)
        shape = cache.shape[1:]
        if any(want not in (None, came) for want, came in zip(page, shape, strict=True)):
            raise VendorContractError(function, argument, f"of pages {page}", tuple(shape))
        elements = shape.numel()
        if cache.shape[0] > 1 and cache.stride(0) not in (elements, 2 * elements):
            raise VendorContractError(
                function, argument, "of dense or alternating pages", f"strides {cache.stride()}"
            )
    (_, keys), (argument, values) = key_cache, value_cache
    if values.shape != keys.shape or values.stride() != keys.stride():
        raise VendorContractError(
            function, argument, f"laid out as the key cache {tuple(keys.shape)}, {keys.stride()}",
            (tuple(values.shape), values.stride()),
        )  # fmt: skip


def _check_pages(function: str, argument: str, cache: torch.Tensor, dtype: torch.dtype) -> None:
    if not isinstance(cache, torch.Tensor) or cache.dtype != dtype or cache.dim() != 4:
        came = (tuple(cache.shape), cache.dtype) if isinstance(cache, torch.Tensor) else cache
        raise VendorContractError(function, argument, f"4-dimensional, of dtype {dtype}", came)
    if not (cache.is_contiguous() or cache.shape[0] == 0 or cache[0].is_contiguous()):
        raise VendorContractError(
            function, argument, "of contiguous pages", f"strides {cache.stride()}"
        )


def dense_pages(cache: torch.Tensor) -> torch.Tensor:
    """``cache`` as the attention functions see it: densely packed pages from its first element.

    They ignore strides. In a cache whose key and value pages alternate, page ``2 b`` of this view
    is page ``b`` of ``cache``.

    Shapes: ``[blocks, KVH, block_size, D]`` -> ``[pages, KVH, block_size, D]``.
    """
    if cache.is_contiguous():
        return cache
    page = cache.shape[1:]
    size = page.numel()
    offset = cache.storage_offset()
    available = cache.untyped_storage().nbytes() // cache.element_size() - offset
    strides = (size, page[1] * page[2], page[2], 1)
    return cache.as_strided((available // size, *page), strides, offset)


def head_rows(
    function: str,
    argument: str,
    table: torch.Tensor,
    unused: torch.Tensor | None,
    kv_heads: int,
    available: int,
    alternate: bool,
) -> torch.Tensor:
    """Rows of dense pages seen as ``[available * KVH, ..]``, from a block table.

    Page 0 fills up where a request has no page (the table may hold anything there). Where key and
    value pages alternate, an odd number would be a page of the other kind.

    Shapes: table int32 and unused bool ``[n, P]`` -> ``[n, KVH, P]``.
    Raises: VendorContractError: a page does not exist, or is of the other kind.
    """

    def make() -> torch.Tensor:
        pages = table if unused is None else table.masked_fill(unused, 0)
        check_pages(function, argument, pages, available, alternate)
        heads = torch.arange(kv_heads, dtype=pages.dtype).unsqueeze(1)
        return (pages.unsqueeze(1) * kv_heads + heads).contiguous()

    key = (kv_heads, available, alternate, table.shape)
    return _pages.get(key, (table,) if unused is None else (table, unused), make)


def gather_heads(cache: torch.Tensor, rows: torch.Tensor, purpose: str) -> torch.Tensor:
    """The pages that ``rows`` names, in float32, in one copy.

    The result may lie in memory that the next call for the same ``purpose`` overwrites.

    Shapes: cache ``[pages, KVH, block_size, D]``, rows ``[n, KVH, P]`` ->
    ``[n, KVH, P * block_size, D]``.
    """
    blocks, heads, block_size, size = cache.shape
    flat = cache.view(blocks * heads, block_size * size)
    result = _workspace(purpose, rows.numel(), block_size * size)
    if cache.dtype == torch.float32:
        torch.index_select(flat, 0, rows.view(-1), out=result)
    else:
        result.copy_(flat.index_select(0, rows.view(-1)))
    return result.view(rows.shape[0], heads, -1, size)


def _workspace(purpose: str, rows: int, width: int) -> torch.Tensor:
    """Uninitialised float32 memory that is kept: fresh pages cost more than the copy into them."""
    elements = rows * width
    buffer: torch.Tensor | None = getattr(_workspaces, purpose, None)
    if buffer is None or buffer.numel() < elements:
        with torch.inference_mode(False):
            buffer = torch.empty(elements, dtype=torch.float32)
        if elements <= WORKSPACE_ELEMENTS:
            setattr(_workspaces, purpose, buffer)
    return buffer[:elements].view(rows, width)


def blank_rows_(heads: torch.Tensor, tokens: torch.Tensor) -> None:
    """Write zeros at ``tokens``, numbered ``b * L + position``, in place.

    For memory past a request's end: a weight of 0 does not undo a NaN there.

    Shapes: heads ``[B, KVH, L, D]`` (written), tokens int64 ``[n]``.
    """
    _, kv_heads, length, size = heads.shape
    request, position = tokens // length, tokens % length
    rows = (request * kv_heads * length + position).unsqueeze(1)
    rows = rows + torch.arange(kv_heads) * length
    heads.view(-1, size).index_fill_(0, rows.reshape(-1), 0.0)
