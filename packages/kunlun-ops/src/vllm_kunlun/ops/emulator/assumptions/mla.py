# SPDX-License-Identifier: Apache-2.0
"""Assumptions about multi-head latent attention and the sparse indexer."""

from vllm_kunlun.ops.emulator.assumptions.assumption import Assumption

__all__ = ["MLA"]

MLA = (
    Assumption(
        "mla-cache-negative-slot",
        "kunlun_ops.concat_and_cache_mla",
        "a negative slot is skipped and nothing is written for its token",
        "H",
        "write three tokens with slots [-1, 5, -1]; only row 5 may change",
    ),
    Assumption(
        "mla-gather-negative-block",
        "xspeedgate_ops.gather_and_maybe_dequant_cache",
        "rows of a negative block stay as they are",
        "H",
        "gather over a table [1, -1] into a filled buffer",
    ),
    Assumption(
        "indexer-scale-not-a-power-of-two",
        "xspeedgate_ops.indexer_k_quant_and_cache",
        'scale = absmax / 127 as it is, whatever "ue8m0" promises; a row of zeros has scale 0',
        "I",
        "quantise a row whose absmax is 100: the scale's bytes say 0.7874 or 1.0",
    ),
    Assumption(
        "indexer-relu",
        "kunlun_ops.I8_mqa_logits, kunlun_ops.I8_paged_mqa_logits",
        "negative products of a head count as 0, before the head's weight",
        "I",
        "one head, weight 1, q = -k: the logit is 0",
    ),
    Assumption(
        "indexer-paged-clean",
        "kunlun_ops.I8_paged_mqa_logits",
        "with clean_logits, positions from a request's length on are -inf",
        "I",
        "a request of length 1 into a buffer of zeros",
    ),
    Assumption(
        "top-k-relative",
        "xspeedgate_ops.topk_per_row",
        "positions count from the row's start; -1 fills what the range does not give",
        "I",
        "a row with range [5, 12) and topK 32",
    ),
    Assumption(
        "mla-decode-latent-values",
        "kunlun_ops.paged_attention",
        "the first kv_lora_rank numbers of a row are its value, for all heads; any float dtype",
        "I",
        "one request of length 1: out is the row's latent part",
    ),
    Assumption(
        "sparse-natural-logarithm",
        "kunlun_ops.sparse_prefill_fwd_opt",
        "lse is the natural logarithm; is_causal hides no index; a query without a row gives 0; "
        "float32 and float16 are taken as well as bfloat16",
        "H",
        "one index, score 0: lse is 0; two equal rows: 0.693",
    ),
    Assumption(
        "sparse-decode-sums",
        "kunlun_ops.fwd_kvcache_mla",
        "p_sums = sum of exp(score - max); float32 and float16 are taken as well as bfloat16",
        "I",
        "two equal rows: 2.0",
    ),
)
