# SPDX-License-Identifier: Apache-2.0
"""The vocabulary-parallel mask."""

from __future__ import annotations

import torch

from vllm_kunlun.emulator.checks import check_tensor, require

__all__ = ["get_masked_input_and_mask"]


def get_masked_input_and_mask(
    input: torch.Tensor,
    org_start: int,
    org_end: int,
    num_org_padding: int,
    added_start: int,
    added_end: int,
    /,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids shifted to this rank's rows (0 where absent), and a mask that is True where absent.

    Shapes: input int32 or int64 of any shape -> ids of its dtype and bool mask, of its shape.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 4, ``xspeedgate_ops.get_masked_input_and_mask``.
    """
    name = "get_masked_input_and_mask"
    check_tensor(name, "input", input, (torch.int32, torch.int64))
    require(org_start <= org_end, name, "org_end", f"at least org_start ({org_start})", org_end)
    require(added_start <= added_end, name, "added_end", f"at least {added_start}", added_end)
    require(num_org_padding >= 0, name, "num_org_padding", "at least 0", num_org_padding)
    original = (input >= org_start) & (input < org_end)
    added = (input >= added_start) & (input < added_end)
    added_offset = added_start - (org_end - org_start) - num_org_padding
    shifted = torch.where(original, input - org_start, input - added_offset)
    absent = ~(original | added)
    return shifted.masked_fill_(absent, 0), absent
