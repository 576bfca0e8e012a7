# SPDX-License-Identifier: Apache-2.0
"""Checks of what a card needs of a function's arguments.

A check takes microseconds; its text is made only where it fails.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch

from vllm_kunlun.ops.contract.limits import HEAD_SIZES
from vllm_kunlun.platforms.errors import KunlunError

__all__ = [
    "FLOATS",
    "VendorContractError",
    "check_equal_copies",
    "check_heads",
    "check_lengths",
    "check_lod",
    "check_pages",
    "check_range",
    "check_same",
    "check_shape",
    "check_tensor",
    "check_window",
    "lod_values",
    "require",
]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class VendorContractError(KunlunError, ValueError):
    """An argument that the card's function would misread."""

    def __init__(self, function: str, argument: str, expected: str, came: object) -> None:
        super().__init__(
            f"{function}: argument {argument!r} must be {expected}, but came as {came}. "
            "On a card this call would give wrong numbers or fail; correct the caller."
        )
        self.function = function
        self.argument = argument


def require(ok: bool, function: str, argument: str, expected: str, came: object) -> None:
    """Hold one condition of the contract.

    Raises: VendorContractError: ``ok`` is false.
    """
    if not ok:
        raise VendorContractError(function, argument, expected, came)


def check_tensor(
    function: str,
    argument: str,
    value: torch.Tensor | None,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    dims: int | None = None,
) -> None:
    """A contiguous tensor of one of ``dtypes`` and, if given, of ``dims`` dimensions.

    Raises: VendorContractError: it is something else, or None.
    """
    if not isinstance(value, torch.Tensor):
        raise VendorContractError(function, argument, "a tensor", repr(value))
    if value.dtype not in dtypes:
        names = " or ".join(str(dtype) for dtype in dtypes)
        raise VendorContractError(function, argument, f"of dtype {names}", value.dtype)
    if dims is not None and value.dim() != dims:
        raise VendorContractError(function, argument, f"{dims}-dimensional", tuple(value.shape))
    if not value.is_contiguous():
        raise VendorContractError(function, argument, "contiguous", f"strides {value.stride()}")


def check_shape(function: str, argument: str, value: torch.Tensor, shape: Sequence[int]) -> None:
    """``value`` has exactly ``shape``.

    Raises: VendorContractError: it has another.
    """
    if value.shape != shape:
        expected = f"of shape {tuple(shape)}"
        raise VendorContractError(function, argument, expected, tuple(value.shape))


def check_same(
    function: str, argument: str, value: torch.Tensor | None, like: torch.Tensor
) -> None:
    """``value`` is contiguous and has the dtype and shape of ``like``.

    Raises: VendorContractError: one of them differs.
    """
    check_tensor(function, argument, value, (like.dtype,))
    check_shape(function, argument, value, like.shape)


def check_range(
    function: str, argument: str, indices: torch.Tensor, limit: int, low: int = 0
) -> int:
    """Indices lie in ``[low, limit)``. Returns the smallest (``low`` if there are none).

    Raises: VendorContractError: one lies outside.
    """
    if indices.numel() == 0:
        return low
    if indices.numel() == 1:
        smallest = largest = int(indices)
    else:
        smallest, largest = (int(bound) for bound in torch.aminmax(indices))
    if smallest < low or largest >= limit:
        raise VendorContractError(
            function, argument, f"in [{low}, {limit})", f"values from {smallest} to {largest}"
        )
    return smallest


def check_pages(
    function: str, argument: str, pages: torch.Tensor, available: int, alternate: bool
) -> None:
    """Entries of a block table name pages that exist.

    Where key and value pages ``alternate``, an odd number would be a page of the other kind.

    Shapes: pages int32 of any shape.
    Raises: VendorContractError: an entry is out of range, or odd where pages alternate.
    """
    check_range(function, argument, pages, available)
    if alternate and bool((pages & 1).any()):
        raise VendorContractError(
            function, argument, "doubled (even) for a cache of alternating pages", pages.tolist()
        )


def check_equal_copies(
    function: str,
    argument: str,
    host: torch.Tensor | None,
    device: torch.Tensor | None,
    count: int | None = None,
) -> None:
    """Hold that the host and the device copy of a vector are the same (``count`` elements).

    Shapes: both int32 ``[n]``.
    Raises: VendorContractError: they differ, or are of another dtype or length.
    """
    check_tensor(function, f"{argument}_cpu", host, (torch.int32,), 1)
    check_tensor(function, f"{argument}_xpu", device, (torch.int32,), 1)
    if count is not None:
        check_shape(function, f"{argument}_cpu", host, (count,))
    assert host is not None and device is not None  # check_tensor refuses None
    if not torch.equal(host, device):
        raise VendorContractError(
            function, f"{argument}_xpu", f"equal to {argument}_cpu ({host.tolist()})",
            device.tolist(),
        )  # fmt: skip


def check_lod(
    function: str, argument: str, host: torch.Tensor | None, device: torch.Tensor | None
) -> list[int]:
    """Two equal LODs: first element 0, never falling. Returns the values.

    Shapes: both int32 ``[n + 1]``.
    Raises: VendorContractError: they differ, or are no LOD.
    """
    check_equal_copies(function, argument, host, device)
    return lod_values(function, f"{argument}_cpu", host)


def lod_values(function: str, argument: str, lod: torch.Tensor | None) -> list[int]:
    """The values of a LOD: first element 0, never falling.

    Shapes: lod int32 ``[n + 1]``.
    Raises: VendorContractError: it is no LOD.
    """
    check_tensor(function, argument, lod, (torch.int32,), 1)
    assert lod is not None  # check_tensor refuses None
    values: list[int] = lod.tolist()
    ok = bool(values) and values[0] == 0 and all(map(operator.le, values, values[1:]))
    require(ok, function, argument, "cumulative lengths from 0", values)
    return values


def check_lengths(function: str, argument: str, lengths: list[int], limit: int) -> None:
    """Lengths lie in ``[0, limit]``.

    Raises: VendorContractError: one lies outside.
    """
    if lengths and (min(lengths) < 0 or max(lengths) > limit):
        raise VendorContractError(function, argument, f"lengths in [0, {limit}]", lengths)


def check_heads(
    function: str, heads: int, kv_heads: int, size: int, sink: torch.Tensor | None
) -> None:
    """Head counts and size of the dense attention functions, and one sink per head if any.

    Shapes: sink float32 ``[heads]``.
    Raises: VendorContractError: one of them does not fit.
    """
    require(size in HEAD_SIZES, function, "head_dim", f"one of {HEAD_SIZES}", size)
    ok = kv_heads > 0 and heads % kv_heads == 0
    require(ok, function, "head_num", f"a multiple of {kv_heads} KV heads", heads)
    if sink is not None:
        check_tensor(function, "sink", sink, (torch.float32,))
        check_shape(function, "sink", sink, (heads,))


def check_window(function: str, argument: str, window: int) -> None:
    """A window is -1 (off) or a positive number of keys, the query's own included.

    Raises: VendorContractError: it is neither.
    """
    require(window == -1 or window > 0, function, argument, "-1 (off) or positive", window)
