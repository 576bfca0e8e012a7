# SPDX-License-Identifier: Apache-2.0
"""The sparse indexer: the vendor's functions, arguments passed as the contract says.

Keys lie in ``uint8 [blocks, bs, D + 4]``: a block holds ``bs * D`` int8 values, then ``bs`` float32
scales. All raise VendorContractError (emulator) for an argument that the card would misread.
Source: contract section 3.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = [
    "I8_mqa_logits",
    "I8_paged_mqa_logits",
    "cp_gather_indexer_k_quant_cache",
    "indexer_k_quant_and_cache",
    "mask_for_I8_mqa_logits",
    "topk_per_row",
]


def indexer_k_quant_and_cache(
    k: Tensor,
    kv_cache: Tensor,
    slot_mapping: Tensor,
    quant_block_size: int = 128,
    scale_fmt: str = "ue8m0",
) -> None:
    """Quantise each key by its largest magnitude and write it to its slot, unless negative.

    Shapes: k ``[T, D]``, kv_cache as above, slot_mapping int64 ``[T]``.
    """
    function("xspeedgate_ops", "indexer_k_quant_and_cache")(
        k, kv_cache, slot_mapping, quant_block_size, scale_fmt
    )


def cp_gather_indexer_k_quant_cache(
    *, kv_cache: Tensor, dst_k: Tensor, dst_scale: Tensor, block_table: Tensor, cu_seq_lens: Tensor
) -> None:
    """The first ``cu[r + 1] - cu[r]`` keys of each request ``r``, and their scales.

    Shapes: dst_k int8 ``[N, D]``, dst_scale uint8 ``[N, 4]`` (the bytes of float32), int32
    block_table ``[R, columns]`` and cu_seq_lens ``[R + 1]``.
    """
    function("xspeedgate_ops", "cp_gather_indexer_k_quant_cache")(
        kv_cache=kv_cache,
        dst_k=dst_k,
        dst_scale=dst_scale,
        block_table=block_table,
        cu_seq_lens=cu_seq_lens,
    )


def I8_mqa_logits(
    *,
    q: Tensor,
    fused_kv_cache: tuple[Tensor, Tensor],
    weights: Tensor,
    context_q_lens: tuple[Tensor, Tensor],
    context_k_lens: tuple[Tensor, Tensor],
    logits: Tensor,
) -> None:
    """``logits[m, n] = k_scale[n] * sum over h of weights[m, h] * relu(q[m, h] . k[n])``.

    Shapes: q int8 ``[M, H, D]``, fused_kv_cache (int8 ``[N, D]``, float32 ``[N, 1]``), weights
    float32 ``[M, H]``, context lengths (host, device) int32 ``[0, M]`` and ``[0, N]``, logits
    float32 ``[M, N]``.
    """
    function("kunlun_ops", "I8_mqa_logits")(
        q=q,
        fused_kv_cache=fused_kv_cache,
        weights=weights,
        context_q_lens=context_q_lens,
        context_k_lens=context_k_lens,
        logits=logits,
        clean_logits=True,
        max_seq_q=0,
        max_seq_k=0,
        is_causal=False,
        use_xfa_boost=False,
    )


def mask_for_I8_mqa_logits(
    *, seq_len_kv: int, cu_seqlen_ks: Tensor, cu_seqlen_ke: Tensor, logits: Tensor
) -> None:
    """-inf outside of ``[ks[m], ke[m])``.

    Shapes: both bounds int32 ``[M]``, logits float32 ``[M, seq_len_kv]``.
    """
    function("xspeedgate_ops", "mask_for_I8_mqa_logits")(
        seq_len_kv=seq_len_kv,
        cu_seqlen_ks=cu_seqlen_ks,
        cu_seqlen_ke=cu_seqlen_ke,
        logits=logits,
    )


def I8_paged_mqa_logits(
    *,
    q: Tensor,
    fused_kv_cache: list[Tensor],
    weights: Tensor,
    context_lens: list[Tensor],
    block_table: Tensor,
    max_context_len: int,
    out: Tensor,
) -> None:
    """:func:`I8_mqa_logits` with keys in pages; -inf past a request's length.

    Shapes: q int8 ``[B, n, H, D]``, fused_kv_cache [int8 ``[blocks, bs, 1, D]``, float32 scales
    ``[B, L]`` gathered by the block table], weights float32 ``[B, n, H]``, context_lens [host,
    device] int32 ``[B]``, block_table int32 ``[B, L / bs]``, out float32 ``[B, n, L]`` with ``L`` =
    max_context_len, a multiple of ``bs``.
    """
    function("kunlun_ops", "I8_paged_mqa_logits")(
        q=q,
        fused_kv_cache=fused_kv_cache,
        weights=weights,
        context_lens=context_lens,
        block_table=block_table,
        max_context_len=max_context_len,
        clean_logits=True,
        out=out,
        use_xfa_boost=False,
    )


def topk_per_row(
    *,
    logits: Tensor,
    srcIndices: Tensor,
    numRows: int,
    stride0: int,
    stride1: int,
    topK: int,
    rowStarts: Tensor | None,
    rowEnds: Tensor | None,
    seqLens: Tensor | None,
    next_n: int | None,
) -> None:
    """Positions of the ``topK`` largest of each row, relative to its start, -1 past its end.

    The range of row ``r`` is ``[rowStarts[r], rowEnds[r])``, or with ``seqLens`` it begins at 0 and
    is ``seqLens[r // next_n] - next_n + r % next_n + 1`` long.

    Shapes: logits float32 ``[R, C]``, srcIndices int32 ``[R, topK]``, bounds int32 ``[R]``.
    """
    function("xspeedgate_ops", "topk_per_row")(
        logits=logits,
        srcIndices=srcIndices,
        numRows=numRows,
        stride0=stride0,
        stride1=stride1,
        topK=topK,
        rowStarts=rowStarts,
        rowEnds=rowEnds,
        seqLens=seqLens,
        next_n=next_n,
    )
