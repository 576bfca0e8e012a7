# SPDX-License-Identifier: Apache-2.0
"""Vocabulary-parallel embedding: the vendor's functions, arguments as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = ["get_masked_input_and_mask"]


def get_masked_input_and_mask(
    input: Tensor,
    org_start: int,
    org_end: int,
    num_org_padding: int,
    added_start: int,
    added_end: int,
) -> tuple[Tensor, Tensor]:
    """Ids as rows of this rank's slice (0 where absent), and a mask that is True where absent.

    Shapes: input int ``[T]``; both results ``[T]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 4.
    """
    return function("xspeedgate_ops", "get_masked_input_and_mask")(
        input, org_start, org_end, num_org_padding, added_start, added_end
    )  # type: ignore[no-any-return]
