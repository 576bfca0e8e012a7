# SPDX-License-Identifier: Apache-2.0
"""Assumptions about low-rank adapters."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["LORA"]

_SEGMENTED = (
    "xspeedgate_ops.sgmv_shrink_sdnn, xspeedgate_ops.sgmv_shrink_cluster, "
    "xspeedgate_ops.sgmv_expand_sdnn, xspeedgate_ops.sgmv_expand_cluster"
)
_ALL = f"{_SEGMENTED}, xspeedgate_ops.bgmv_shrink_cluster, xspeedgate_ops.bgmv_expand_cluster"

LORA = (
    Assumption(
        "lora-negative-index",
        _ALL,
        "an index of -1 is no adapter: its rows of the output keep their bits",
        "I",
        "expand two rows of -0.0 with indices [0, -1]: the second stays -0.0; with another answer "
        "the caller has to give such rows an adapter of zeros, and they are no longer exact",
    ),
    Assumption(
        "lora-one-dtype",
        _ALL,
        "inputs, matrices and output are all float16, all bfloat16 or all float32; only float16 "
        "has been seen",
        "I",
        "the same product in each dtype, against float64",
    ),
    Assumption(
        "lora-empty-segment",
        _SEGMENTED,
        "a segment of 0 tokens is passed over, so that metadata of a fixed length (for a captured "
        "graph) can be filled up with such segments",
        "I",
        "seq_len [2, 0, 3, 0] with indices [0, 1, 2, -1] equals seq_len [2, 3] with [0, 2]",
    ),
    Assumption(
        "lora-rows-after-segments",
        _SEGMENTED,
        "rows after the last segment (padding of a captured graph) stay as they are",
        "I",
        "five rows, seq_len [2]: rows 2 to 4 of the output do not change",
    ),
    Assumption(
        "lora-metadata-on-device",
        _ALL,
        "lengths and indices are read by the device when it runs, not by the host at launch, so "
        "that a captured graph serves other adapters at its next replay",
        "I",
        "capture one call, change lora_indices in place, replay: the other adapter must answer",
    ),
)
