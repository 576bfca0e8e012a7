# SPDX-License-Identifier: Apache-2.0
"""Latent attention before its keys are latent: the vendor's functions of prefill and projection.

Both raise VendorContractError (emulator) for an argument that the card would misread. Source:
contract sections 2 and 3.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = ["attention", "mla_bmm_I8"]


def attention(
    *,
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    out: Tensor,
    is_causal: bool,
    context_seq_lod_cpu: Tensor,
    context_seq_lod_xpu: Tensor,
    alpha: float,
    softmax_lse: Tensor,
    context_kvlen_lod_cpu: Tensor | None = None,
    context_kvlen_lod_xpu: Tensor | None = None,
) -> None:
    """Prefill over packed keys: ``out = softmax(q . k * alpha / sqrt(D)) v``, and its log-sum-exp.

    ``is_causal=True``: the keys of the queries' own tokens. ``is_causal=False``: every key of the
    request, and ``context_kvlen_lod_*`` is the LOD of the keys; without it the library would read
    the keys by the LOD of the queries, and hang. A request without keys has zeros and -inf.

    Shapes: q, out ``[T, H, D]``; k_cache, v_cache ``[Tk, H, D]`` in spite of their names, values
    padded with zeros to the width of the keys; LODs int32 ``[B + 1]``; softmax_lse float32
    ``[H, T]``, natural logarithm (the library needs the buffer even where nobody reads it).
    """
    keys = (
        {}
        if context_kvlen_lod_cpu is None
        else {
            "context_kvlen_lod_cpu": context_kvlen_lod_cpu,
            "context_kvlen_lod_xpu": context_kvlen_lod_xpu,
        }
    )
    function("kunlun_ops", "attention")(
        q=q,
        k_cache=k_cache,
        v_cache=v_cache,
        out=out,
        is_causal=is_causal,
        is_prefill=True,
        prefill_len=0,
        k_perchannel_scale=None,
        v_perchannel_scale=None,
        smooth=None,
        context_seq_lod_cpu=context_seq_lod_cpu,
        context_seq_lod_xpu=context_seq_lod_xpu,
        slot_mapping_cpu=None,
        slot_mapping_xpu=None,
        v_trans=False,
        v_trans_threshold=0,
        alpha=alpha,
        softmax_lse=softmax_lse,
        unpadded_lse=True,
        **keys,
    )


def mla_bmm_I8(
    x: Tensor,
    weight_i8: Tensor,
    weight_max: Tensor,
    out: Tensor,
    sorted_tokens_num_lod: Tensor,
    sorted_tokens_idx: Tensor,
) -> None:
    """``out[b, n, o] = sum_k x[b, n, k] * weight_i8[n, o, k] * weight_max[n, o] / 127``.

    Shapes: x ``[B, N, K]``, weight_i8 int8 ``[N, O, K]``, weight_max float32 ``[N * O, 1]`` (127
    times the scale), out ``[B, N, O]``; int32 sorted_tokens_num_lod ``arange(N + 1) * B`` and
    sorted_tokens_idx ``arange(N * B)``.
    """
    function("kunlun_ops", "mla_bmm_I8")(
        x,
        weight_i8,
        weight_max,
        out,
        sorted_tokens_num_lod,
        sorted_tokens_idx,
        trans=False,
    )
