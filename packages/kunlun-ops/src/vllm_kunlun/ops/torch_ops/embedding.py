# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.vllm_kunlun`` op of the vocabulary-parallel embedding."""

import torch
from torch import Tensor

from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.torch_ops.registration import custom_op
from vllm_kunlun.ops.vendor_ops.library import has

__all__ = ["mask_input"]


def _local_and_mask(input_ids: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(input_ids), torch.empty_like(input_ids, dtype=torch.bool)


@custom_op(fake=_local_and_mask)
def mask_input(
    input_ids: Tensor,
    org_start: int,
    org_end: int,
    num_org_padding: int,
    added_start: int,
    added_end: int,
) -> tuple[Tensor, Tensor]:
    """Token ids as rows of this rank's slice, and a mask that is True for other ranks' tokens.

    Shapes: input_ids int32 or int64 of any shape -> ids of its dtype and bool mask, of its shape.
    Source: contract section 4, ``xspeedgate_ops.get_masked_input_and_mask``.
    """
    if has("xspeedgate_ops", "get_masked_input_and_mask"):
        return vendor_ops.get_masked_input_and_mask(
            input_ids, org_start, org_end, num_org_padding, added_start, added_end
        )
    # The library of the vendor's image has no such function.
    original = (input_ids >= org_start) & (input_ids < org_end)
    added = (input_ids >= added_start) & (input_ids < added_end)
    before_added = org_end - org_start + num_org_padding
    rows = torch.where(added, input_ids - added_start + before_added, input_ids - org_start)
    absent = ~(original | added)
    return rows.masked_fill_(absent, 0), absent
