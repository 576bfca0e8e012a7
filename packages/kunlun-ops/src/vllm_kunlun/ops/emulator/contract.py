# SPDX-License-Identifier: Apache-2.0
"""Checks of what a card needs of its arguments. They cost microseconds and format only on failure."""

from __future__ import annotations

import torch

from vllm_kunlun.platforms.errors import KunlunError

__all__ = [
    "FLOATS",
    "VendorContractError",
    "check_equal_copies",
    "check_lod",
    "check_positive_lengths",
    "check_same",
    "check_shape",
    "check_tensor",
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
    """Raise :class:`VendorContractError` unless ``ok``."""
    if not ok:
        raise VendorContractError(function, argument, expected, came)


def check_tensor(
    function: str,
    argument: str,
    value: torch.Tensor,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    dims: int | None = None,
) -> None:
    """A contiguous tensor of one of ``dtypes`` and, if given, of ``dims`` dimensions."""
    if value.dtype not in dtypes:
        raise VendorContractError(function, argument, f"of dtype {dtypes}", value.dtype)
    if dims is not None and value.dim() != dims:
        raise VendorContractError(function, argument, f"{dims}-dimensional", tuple(value.shape))
    if not value.is_contiguous():
        raise VendorContractError(function, argument, "contiguous", f"strides {value.stride()}")


def check_shape(function: str, argument: str, value: torch.Tensor, shape: tuple[int, ...]) -> None:
    """``value`` has exactly ``shape``."""
    if tuple(value.shape) != shape:
        raise VendorContractError(function, argument, f"of shape {shape}", tuple(value.shape))


def check_same(function: str, argument: str, value: torch.Tensor, like: torch.Tensor) -> None:
    """``value`` is contiguous and has the dtype and shape of ``like``."""
    check_tensor(function, argument, value, (like.dtype,))
    check_shape(function, argument, value, tuple(like.shape))


def check_equal_copies(
    function: str, argument: str, host: torch.Tensor, device: torch.Tensor, count: int
) -> None:
    """The host and the device copy of an int32 vector of ``count`` elements hold the same."""
    for suffix, value in (("cpu", host), ("xpu", device)):
        check_tensor(function, f"{argument}_{suffix}", value, (torch.int32,), 1)
        check_shape(function, f"{argument}_{suffix}", value, (count,))
    if not torch.equal(host, device):
        raise VendorContractError(
            function, f"{argument}_xpu", f"equal to {argument}_cpu ({host.tolist()})",
            device.tolist(),
        )  # fmt: skip


def check_lod(
    function: str, argument: str, host: torch.Tensor, device: torch.Tensor, total: int | None = None
) -> None:
    """Two equal LODs: first element 0, never falling, last element ``total`` if given."""
    check_equal_copies(function, argument, host, device, host.shape[0])
    values = host.numpy()
    ok = values.shape[0] > 0 and values[0] == 0 and (values[1:] >= values[:-1]).all()
    require(bool(ok), function, f"{argument}_cpu", "cumulative lengths from 0", host.tolist())
    if total is not None and values[-1] != total:
        raise VendorContractError(
            function, f"{argument}_cpu", f"a LOD ending at {total}", values[-1]
        )


def check_positive_lengths(function: str, argument: str, host: torch.Tensor, limit: int) -> None:
    """Lengths on the host lie in ``[0, limit]``."""
    if host.numel() and (int(host.min()) < 0 or int(host.max()) > limit):
        raise VendorContractError(function, argument, f"lengths in [0, {limit}]", host.tolist())
