# SPDX-License-Identifier: Apache-2.0
"""Contract section 7: sampling."""

from __future__ import annotations

from .signature import FLOAT32, INT32, SLOTS, Scalar, Signature, Tensor

_PROBS = Tensor("probs", FLOAT32, "B V")
_TOP_P = Tensor("top_p", FLOAT32, "B")
_DETERMINISTIC = Scalar("deterministic", "bool", values=(True,))

SIGNATURES = (
    Signature(
        "kunlun_ops.top_p_sampling_from_probs",
        "7",
        positional=(_PROBS,),
        named=(_TOP_P, _DETERMINISTIC),
        returns=("Tensor",),
    ),
    Signature(
        "kunlun_ops.top_k_sampling_from_probs",
        "7",
        positional=(_PROBS,),
        named=(Tensor("top_k", SLOTS, "B"), _DETERMINISTIC),
        returns=("Tensor",),
    ),
    Signature(
        "kunlun_ops.top_k_top_p_sampling_from_probs",
        "7",
        positional=(_PROBS,),
        named=(Tensor("top_k", INT32, "B"), _TOP_P, _DETERMINISTIC),
        returns=("Tensor",),
    ),
)
