# SPDX-License-Identifier: Apache-2.0
"""Contract section 8: gated delta rule."""

from __future__ import annotations

from vllm_kunlun.ops.contract.limits import CHUNK_TOKENS

from .signature import (
    ANY_FLOAT,
    FLOAT32,
    HALF,
    INT32,
    MODEL,
    SLOTS,
    Scalar,
    Signature,
    Tensor,
)

_LODS = (Tensor("cu_seqlens", SLOTS, "N+1"), Tensor("chunk_indices", SLOTS, "NT 2"))
_CHUNK = Scalar("chunk_size", "int", values=(CHUNK_TOKENS,))
_A = Tensor("A", ANY_FLOAT, f"1 T HV {CHUNK_TOKENS}", write="inout")
_Q = Tensor("q", HALF, "1 T H K")
_K = Tensor("k", HALF, "1 T H K")

SIGNATURES = (
    Signature(
        "kunlun_ops.fused_gdn_gating",
        "8",
        positional=(
            Tensor("A_log", FLOAT32, "HV"),
            Tensor("a", ANY_FLOAT, "T HV"),
            Tensor("dt_bias", FLOAT32, "HV"),
        ),
        returns=("Tensor",),
    ),
    Signature(
        "kunlun_ops.fused_recurrent_gated_delta_rule_fwdv2",
        "8",
        positional=(
            Tensor("q", MODEL, "1 T H K"),
            Tensor("k", MODEL, "1 T H K"),
            Tensor("v", MODEL, "1 T HV V"),
            Tensor("g", ANY_FLOAT, "1 T HV"),
            Tensor("beta", ANY_FLOAT, "1 T HV"),
            Scalar("scale", "float"),
            # The pool of states may share its pages with the convolution's.
            Tensor("initial_state", ANY_FLOAT, "NB HV V K", write="inout", layout="stride(0)"),
        ),
        named=(
            Scalar("inplace_final_state", "bool"),
            Tensor("cu_seqlens", INT32, "N+1"),
            Tensor("h0_indices", INT32, "N | N S1 | T"),
            Tensor("num_accepted_tokens", INT32, "N", or_none=True),
            Scalar("use_qk_l2norm_in_kernel", "bool"),
            Scalar("is_h0_transposed", "bool", values=(True,)),
        ),
        returns=("Tensor", "Tensor"),
    ),
    Signature(
        "xspeedgate_ops.chunk_local_cumsum",
        "8",
        positional=(Tensor("g", ANY_FLOAT, "1 T HV"),),
        named=(
            Scalar("chunk_size", "int", values=(CHUNK_TOKENS,), default=CHUNK_TOKENS),
            Scalar("reverse", "bool", values=(False,), default=False),
            *_LODS,
            Scalar("head_first", "bool", values=(False,), default=False),
        ),
        returns=("Tensor",),
    ),
    Signature(
        "xspeedgate_ops.chunk_scaled_dot_kkt_fwd",
        "8",
        positional=(
            _K,
            Tensor("beta", ANY_FLOAT, "1 T HV"),
            Tensor("g", ANY_FLOAT, "1 T HV"),
            *_LODS,
            _CHUNK,
        ),
        returns=("Tensor",),
    ),
    Signature(
        "xspeedgate_ops.solve_tril_ns",
        "8",
        positional=(_A, *_LODS, _CHUNK),
    ),
    Signature(
        "xspeedgate_ops.recompute_w_u_fwd",
        "8",
        named=(
            _K,
            Tensor("v", HALF, "1 T HV V"),
            Tensor("beta", ANY_FLOAT, "1 T HV"),
            Tensor("A", ANY_FLOAT, f"1 T HV {CHUNK_TOKENS}"),
            Tensor("g_cumsum", ANY_FLOAT, "1 T HV"),
            *_LODS,
            _CHUNK,
        ),
        returns=("Tensor", "Tensor"),
    ),
    Signature(
        "xspeedgate_ops.chunk_gated_delta_rule_fwd_h",
        "8",
        positional=(
            _K,
            Tensor("u", HALF, "1 T HV V"),
            Tensor("w", HALF, "1 T HV K"),
            Tensor("g", ANY_FLOAT, "1 T HV"),
            Tensor("initial_state", ANY_FLOAT, "N HV K V", or_none=True),
            *_LODS,
            Tensor("chunk_offsets", SLOTS, "N+1"),
            _CHUNK,
            Scalar("output_final_state", "bool"),
            Scalar("save_new_value", "bool", values=(True,)),
        ),
        returns=("Tensor", "Tensor", "Tensor?"),
    ),
    Signature(
        "xspeedgate_ops.chunk_fwd_o",
        "8",
        named=(
            _Q,
            _K,
            Tensor("v", HALF, "1 T HV V"),
            Tensor("h", ANY_FLOAT, "1 NT HV K V"),
            Tensor("g", ANY_FLOAT, "1 T HV"),
            Scalar("scale", "float"),
            *_LODS,
            _CHUNK,
        ),
        returns=("Tensor",),
    ),
)  # fmt: skip
