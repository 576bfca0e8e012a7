# SPDX-License-Identifier: Apache-2.0
"""Assumptions about the gated delta rule and its causal convolution."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["GDN"]

_RECURRENT = "kunlun_ops.fused_recurrent_gated_delta_rule_fwdv2"
_KKT, _SOLVE = "xspeedgate_ops.chunk_scaled_dot_kkt_fwd", "xspeedgate_ops.solve_tril_ns"
_W_U, _O = "xspeedgate_ops.recompute_w_u_fwd", "xspeedgate_ops.chunk_fwd_o"
_CUMSUM, _H = "xspeedgate_ops.chunk_local_cumsum", "xspeedgate_ops.chunk_gated_delta_rule_fwd_h"
_CONV = "kunlun_ops.causal_conv1d_fn, kunlun_ops.causal_conv1d_update"

GDN = (
    Assumption(
        "gdn-float32",
        ", ".join((_RECURRENT, _KKT, _W_U, _H, _O)),
        "q, k and v are taken in float32 too, where a card is known to take 16 bits only: so that "
        "a model can be compared with one that somebody else computed in float32",
        "I",
        "call each with float32: a card that refuses loses nothing but the comparison",
    ),
    Assumption(
        "gdn-kkt-sign",
        f"{_KKT}, {_SOLVE}",
        "A is positive and the inverse is that of I + A",
        "I",
        "two equal keys, beta 1, g 0: A[1, 0] is +1, and -1 after the inverse",
    ),
    Assumption(
        "gdn-kkt-dtype",
        ", ".join((_KKT, _SOLVE, _W_U)),
        "A is float32 from its making to its last use; beta may have any float dtype",
        "I",
        "the dtype of what chunk_scaled_dot_kkt_fwd returns; pass it on as it is",
    ),
    Assumption(
        "gdn-final-state-float32",
        _H,
        "the final states are float32, h and v_new have k's dtype; the initial states may have "
        "any float dtype",
        "I",
        "dtypes of the three results for float16 inputs and states",
    ),
    Assumption(
        "gdn-empty-sequence",
        ", ".join((_CUMSUM, _KKT, _SOLVE, _W_U, _H, _O)),
        "a sequence without tokens has no chunk but counts in chunk_indices' first column, and its "
        "final state is the initial one",
        "I",
        "lengths (0, 65, 0): chunk_indices (1, 0), (1, 1)",
    ),
    Assumption(
        "gdn-pool-stride",
        _RECURRENT,
        "the first stride of initial_state is honoured, as states of a hybrid model lie apart",
        "I",
        "a pool cut from rows twice as long; the second half of no row may change",
    ),
    Assumption(
        "gdn-negative-index",
        _RECURRENT,
        "a negative index is skipped: no state is written, and outputs are 0",
        "I",
        "three requests with indices [3, -1, 6]",
    ),
    Assumption(
        "gdn-draft-without-index",
        _RECURRENT,
        "with num_accepted_tokens an index of 0 or less is none: no state is written, and a "
        "sequence that would start from it gives zeros",
        "I",
        "three requests, one of which starts from index 0; a pool whose row 0 is not zero",
    ),
    Assumption(
        "conv-negative-index",
        _CONV,
        "a negative index is skipped: no state is written and the rows of out stay as they are",
        "I",
        "three requests with indices [1, -1, 2] and out filled with a marker",
    ),
    Assumption(
        "conv-state-rows",
        _CONV,
        "of a state longer than width - 1 only the first width - 1 rows are read and written; the "
        "fifth argument of causal_conv1d_update is None",
        "I",
        "width 4, states of 5 rows: rows 3 and 4 stay as they are",
    ),
)
