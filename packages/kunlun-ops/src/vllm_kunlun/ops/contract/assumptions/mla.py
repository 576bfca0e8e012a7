# SPDX-License-Identifier: Apache-2.0
"""Assumptions about multi-head latent attention and the sparse indexer."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

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
    Assumption(
        "mla-prefill-kv-lod",
        "kunlun_ops.attention",
        "with is_causal=False, context_kvlen_lod_cpu and _xpu are the LOD of the keys (both "
        "context_seq_lod that of the queries), and every query sees every key of its request",
        "I",
        "queries [0, 1, 3] on keys [0, 2, 5] of equal score: the first row is the mean of values 0 "
        "and 1, the others that of 2 to 4",
    ),
    Assumption(
        "mla-prefill-lse",
        "kunlun_ops.attention",
        "with unpadded_lse=True softmax_lse is float32 [H, T], the natural logarithm of the sum of "
        "exp(scaled score)",
        "I",
        "equal scores 0, causal: row i is ln(i + 1)",
    ),
    Assumption(
        "mla-prefill-lse-written",
        "kunlun_ops.attention",
        "softmax_lse is written everywhere, whatever it held (the contract's caller fills -inf)",
        "I",
        "the same call on a buffer of -inf and on one of NaN",
    ),
    Assumption(
        "mla-prefill-no-keys",
        "kunlun_ops.attention",
        "with is_causal=False a request may have no keys: a log-sum-exp of -inf and an output of 0 "
        "are written, or left",
        "I",
        "keys [0, 2, 2] for queries [0, 1, 2], out full of 0 and softmax_lse of -inf",
    ),
    Assumption(
        "mla-bmm-activations",
        "kunlun_ops.mla_bmm_I8",
        "activations are not quantised inside: out = x (W max / 127) with one rounding",
        "I",
        "x = [127, 0.4] and weights [0, 127] with max 127: 0.4 * 127 if x stays as it is, 0 if it "
        "is rounded to int8",
    ),
    Assumption(
        "mla-bmm-dtypes",
        "kunlun_ops.mla_bmm_I8",
        "x and out may be float32 or bfloat16 as well as float16",
        "I",
        "the same product in each dtype",
    ),
)
