# SPDX-License-Identifier: Apache-2.0
"""The indexer adapter passes each argument as the contract says."""

from __future__ import annotations

from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_indexer_arguments(recorders: dict[str, Recorder]) -> None:
    """What no caller has ever set is passed as the constants of the contract."""
    packed = ["q", "fused_kv_cache", "weights", "context_q_lens", "context_k_lens", "logits"]
    paged = [
        "q",
        "fused_kv_cache",
        "weights",
        "context_lens",
        "block_table",
        "max_context_len",
        "out",
    ]
    vendor_ops.I8_mqa_logits(**{name: name for name in packed})
    vendor_ops.I8_paged_mqa_logits(**{name: name for name in paged})
    both = {"clean_logits": True, "use_xfa_boost": False}
    constants = {"max_seq_q": 0, "max_seq_k": 0, "is_causal": False, **both}
    assert recorders["kunlun_ops"].calls == [
        ("I8_mqa_logits", (), {**{name: name for name in packed}, **constants}),
        ("I8_paged_mqa_logits", (), {**{name: name for name in paged}, **both}),
    ]
