# SPDX-License-Identifier: Apache-2.0
"""Attention: the vendor's functions, arguments passed as the contract says."""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.contract import findings
from vllm_kunlun.ops.vendor_ops.library import call_form, function

__all__ = [
    "EMPTY_LSE",
    "attention_merge_stage",
    "prefill_attention",
    "speculative_attention",
]

EMPTY_LSE = -1e30
"""Log-sum-exp of no keys: below every real one, and finite."""


def speculative_attention(
    *,
    out: Tensor,
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    context_lens_cpu: Tensor,
    context_lens_xpu: Tensor,
    batch_num: int,
    qlen: int,
    max_context_len: int,
    head_num: int,
    head_dim: int,
    scale: float,
    kv_head_num: int,
    block_size: int,
    max_num_blocks_per_seq: int,
    max_window_size: int,
    block_tables: Tensor,
    sink: Tensor | None,
) -> None:
    """Decode: row ``i`` of request ``b`` sees keys ``j <= len_b - qlen + i``; ``out = softmax((q .
    k) scale) v``.

    Shapes: q ``[1, B, H, D]`` and out ``[B, H, D]`` for ``qlen = 1``, else both ``[B, qlen, H,
    D]``; caches ``[blocks, KVH, block_size, D]``; lengths int32 ``[B]``; block_tables int32 ``[B,
    max_blocks]``; sink float32 ``[H]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 2.
    """
    function("kunlun_ops", "speculative_attention")(
        out=out,
        q=q,
        k_cache=k_cache,
        v_cache=v_cache,
        context_lens_cpu=context_lens_cpu,
        context_lens_xpu=context_lens_xpu,
        batch_num=batch_num,
        qlen=qlen,
        max_context_len=max_context_len,
        head_num=head_num,
        head_dim=head_dim,
        scale=scale,
        kv_head_num=kv_head_num,
        block_size=block_size,
        max_num_blocks_per_seq=max_num_blocks_per_seq,
        max_window_size=max_window_size,
        block_tables=block_tables,
        sink=sink,
    )


def prefill_attention(
    *,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    is_causal: bool,
    alpha: float,
    context_qlen_lod_cpu: Tensor,
    context_qlen_lod_xpu: Tensor,
    alibi_slopes: Tensor | None,
    softmax_lse: Tensor | None,
    swa_left: int,
    swa_right: int,
    sink: Tensor | None,
    is_prefix_cache: bool = False,
    block_table: Tensor | None = None,
    context_kvlen_lod_cpu: Tensor | None = None,
    context_kvlen_lod_xpu: Tensor | None = None,
) -> None:
    """Attention of many queries per request, over packed keys or, with a block table, the cache.

    ``S = (q . k) alpha / sqrt(D) + alibi_h (j - i)``, causal at the bottom right, in float32.

    Shapes: q, out ``[T, H, D]``; k, v ``[T, KVH, D]`` or caches ``[blocks, KVH, block_size, D]``;
    LODs int32 ``[B + 1]``; block_table int32 ``[B, max_blocks]``; alibi_slopes, sink float32
    ``[H]``; softmax_lse float32 ``[H, T]``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    Source: contract section 2.
    """
    cache_mode = (
        {
            "is_prefix_cache": True,
            "block_table": block_table,
            "context_kvlen_lod_cpu": context_kvlen_lod_cpu,
            "context_kvlen_lod_xpu": context_kvlen_lod_xpu,
        }
        if is_prefix_cache
        else {}
    )
    function("kunlun_ops", "prefill_attention")(
        q=q,
        k=k,
        v=v,
        out=out,
        is_causal=is_causal,
        alpha=alpha,
        context_qlen_lod_cpu=context_qlen_lod_cpu,
        context_qlen_lod_xpu=context_qlen_lod_xpu,
        alibi_slopes=alibi_slopes,
        softmax_lse=softmax_lse,
        swa_left=swa_left,
        swa_right=swa_right,
        sink=sink,
        **cache_mode,
    )


def attention_merge_stage(
    prefix_output: Tensor,
    prefix_lse: Tensor,
    suffix_output: Tensor,
    suffix_lse: Tensor,
    output: Tensor,
    output_lse: Tensor,
) -> None:
    """Combine attention over two disjoint sets of keys by their log-sum-exps.

    A side without keys has zeros and at most :data:`EMPTY_LSE`, not -inf: on two such sides the
    library would compute -inf - -inf.

    Shapes: outputs ``[T, H, D]``; lse float32 ``[T, H]``, contiguous, natural logarithm. The
    library reads the sizes off the outputs alone, so that a transposed lse would be read as it
    lies; which of the two it takes is the card finding ``merge-lse``.
    Raises: VendorContractError (emulator): an argument that the card would misread.
    VendorLibraryError: the library refused the form.
    Source: contract section 2.
    """
    if findings.chosen("merge-lse") == "heads-first":
        lses = [each.T.contiguous() for each in (prefix_lse, suffix_lse, output_lse)]
    else:
        lses = [prefix_lse, suffix_lse, output_lse]
    call_form(
        "merge-lse", "kunlun_ops", "attention_merge_stage",
        prefix_output, lses[0], suffix_output, lses[1], output, lses[2],
    )  # fmt: skip
    if lses[2] is not output_lse:
        output_lse.copy_(lses[2].T)
