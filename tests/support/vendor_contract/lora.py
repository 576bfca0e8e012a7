# SPDX-License-Identifier: Apache-2.0
"""Contract section 9: LoRA."""

from __future__ import annotations

from .signature import ANY_FLOAT, INT32, INT64, MODEL, Scalar, Signature, Tensor

# The narrow buffer between shrink and expand need not have the model's dtype.
_SHRINK = (Tensor("inputs", MODEL, "T IN"), Tensor("lora_a", MODEL, "N R IN"))
_NARROW = Tensor("output", ANY_FLOAT, "T R", write="inout")
_EXPAND = (Tensor("inputs", ANY_FLOAT, "T R"), Tensor("lora_b", MODEL, "N OUT R"))
_WIDE = Tensor("output", MODEL, "T WIDE", write="inout")
_SEGMENTS = (Tensor("seq_len", INT32, "B"), Tensor("lora_indices", INT32, "B"))
_TOKENS = (Tensor("token_lora_indices", INT64, "T"),)
_SCALING = Scalar("scaling", "float")
_OFFSET = Scalar("slice_offset", "int")

SIGNATURES = (
    Signature("xspeedgate_ops.sgmv_shrink_sdnn", "9", (*_SHRINK, *_SEGMENTS, _NARROW, _SCALING)),
    Signature("xspeedgate_ops.sgmv_shrink_cluster", "9", (*_SHRINK, *_SEGMENTS, _NARROW, _SCALING)),
    Signature("xspeedgate_ops.sgmv_expand_sdnn", "9", (*_EXPAND, *_SEGMENTS, _WIDE, _OFFSET)),
    Signature("xspeedgate_ops.sgmv_expand_cluster", "9", (*_EXPAND, *_SEGMENTS, _WIDE, _OFFSET)),
    Signature("xspeedgate_ops.bgmv_shrink_cluster", "9", (*_SHRINK, *_TOKENS, _NARROW, _SCALING)),
    Signature("xspeedgate_ops.bgmv_expand_cluster", "9", (*_EXPAND, *_TOKENS, _WIDE, _OFFSET)),
)
