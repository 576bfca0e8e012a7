# SPDX-License-Identifier: Apache-2.0
"""The delta rule's adapter passes each argument as the contract says."""

from __future__ import annotations

from support.recorder import Recorder

from vllm_kunlun.ops import vendor_ops


def test_delta_rule_arguments(recorders: dict[str, Recorder]) -> None:
    """States are transposed and written in place; chunks are of 64 tokens."""
    packed = ["q", "k", "v", "g", "beta", "scale", "initial_state"]
    named = ["cu_seqlens", "h0_indices", "num_accepted_tokens", "use_qk_l2norm_in_kernel"]
    vendor_ops.fused_recurrent_gated_delta_rule_fwdv2(*packed, **{name: name for name in named})
    constants = {"inplace_final_state": True, "is_h0_transposed": True}
    assert recorders["kunlun_ops"].calls == [
        ("fused_recurrent_gated_delta_rule_fwdv2", tuple(packed),
         {**{name: name for name in named}, **constants})
    ]  # fmt: skip
    chunks = ("cu_seqlens", "chunk_indices")
    by_name = {name: name for name in chunks}
    vendor_ops.chunk_local_cumsum("g", **by_name)
    vendor_ops.chunk_scaled_dot_kkt_fwd("k", "beta", "g", *chunks)
    vendor_ops.solve_tril_ns("A", *chunks)
    w_u = {name: name for name in ("k", "v", "beta", "A", "g_cumsum", *chunks)}
    vendor_ops.recompute_w_u_fwd(**w_u)
    states = ("k", "u", "w", "g", "initial_state", *chunks, "chunk_offsets")
    vendor_ops.chunk_gated_delta_rule_fwd_h(*states)
    output = {name: name for name in ("q", "k", "v", "h", "g", "scale", *chunks)}
    vendor_ops.chunk_fwd_o(**output)
    assert recorders["xspeedgate_ops"].calls == [
        ("chunk_local_cumsum", ("g",),
         {"chunk_size": 64, "reverse": False, "head_first": False, **by_name}),
        ("chunk_scaled_dot_kkt_fwd", ("k", "beta", "g", *chunks, 64), {}),
        ("solve_tril_ns", ("A", *chunks, 64), {}),
        ("recompute_w_u_fwd", (), {**w_u, "chunk_size": 64}),
        ("chunk_gated_delta_rule_fwd_h", (*states, 64, True, True), {}),
        ("chunk_fwd_o", (), {**output, "chunk_size": 64}),
    ]  # fmt: skip
