# SPDX-License-Identifier: Apache-2.0
"""Contract section 4: embedding."""

from __future__ import annotations

from .signature import (
    SLOTS,
    Scalar,
    Signature,
    Tensor,
)

SIGNATURES = (
    Signature(
        "xspeedgate_ops.get_masked_input_and_mask",
        "4",
        positional=(
            Tensor("input", SLOTS, "..."),
            Scalar("org_start", "int"),
            Scalar("org_end", "int"),
            Scalar("num_org_padding", "int"),
            Scalar("added_start", "int"),
            Scalar("added_end", "int"),
        ),
        returns=("Tensor", "Tensor"),
    ),
)  # fmt: skip
