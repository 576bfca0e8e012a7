# SPDX-License-Identifier: Apache-2.0
"""Assumptions about what dense models call: attention, norms, activations, rope, sampling."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["DENSE"]

DENSE = (
    Assumption(
        "cache-negative-slot",
        "kunlun_ops.reshape_and_cache_flash",
        "a negative slot is skipped and nothing is written for its token",
        "I",
        "write two tokens with slots [3, -1] into zeroed caches; only slot 3 may change, and "
        "neither the last slot nor memory before the cache",
    ),
    Assumption(
        "cache-int32-slots",
        "kunlun_ops.reshape_and_cache_flash",
        "slots may be int32 as well as int64",
        "H",
        "write the same tokens once with each dtype into two caches and compare",
    ),
    Assumption(
        "cache-native-write",
        "kunlun_ops.reshape_and_cache",
        "caches [blocks, KVH, block_size, D] and int64 slots are taken; a negative slot is "
        "skipped; no stride is looked at",
        "I",
        "write tokens of 1, 2 and 4 heads to slots [-1, 5, -1, 46]",
    ),
    Assumption(
        "prefill-bottom-right-causal",
        "kunlun_ops.prefill_attention",
        "with more keys than queries the causal mask is aligned to the last key: query i of Lq "
        "sees keys j <= i + Lk - Lq",
        "I",
        "one query on three cached keys with values 1, 2, 4 and equal scores: 7/3 if aligned to "
        "the last key, 1 if to the first",
    ),
    Assumption(
        "prefill-default-alpha",
        "kunlun_ops.prefill_attention",
        "alpha is 1.0 if it is not given",
        "H",
        "call once without alpha and once with alpha=1.0 and compare",
    ),
    Assumption(
        "prefill-window-counts-itself",
        "kunlun_ops.prefill_attention",
        "swa_left = W leaves W keys visible, the query's own among them (i - j < W); -1 is off",
        "I",
        "four equal scores, values 1, 2, 4, 8, swa_left=2: the last row is 6 if W counts the "
        "query's own key, 14/3 if not",
    ),
    Assumption(
        "prefill-window-right",
        "kunlun_ops.prefill_attention",
        "swa_right = R leaves R keys to the right of the query's own visible (j - i <= R), each "
        "side on its own; -1 is off",
        "I",
        "the same with is_causal=False, swa_left=-1, swa_right=1: the first row is 3/2",
    ),
    Assumption(
        "prefill-not-causal",
        "kunlun_ops.prefill_attention",
        "is_causal=False is supported, and every query then sees every key of its request",
        "I",
        "two equal scores, values 1 and 3: both rows are 2",
    ),
    Assumption(
        "prefill-alibi",
        "kunlun_ops.prefill_attention",
        "alibi adds slope_h * (j - i) with i the query's absolute position, after alpha / sqrt(D); "
        "the slopes lie on the device",
        "I",
        "two keys of score 0, slope ln 3: the last row weighs them 1 to 3; then with the slopes in "
        "host memory",
    ),
    Assumption(
        "prefill-lse",
        "kunlun_ops.prefill_attention",
        "softmax_lse, if given, is written as float32 [H, T], natural logarithm, sink included",
        "I",
        "equal scores 0: row i is ln(i + 1); with a sink of 0 it is ln(i + 2)",
    ),
    Assumption(
        "attention-sink",
        "kunlun_ops.prefill_attention, kunlun_ops.speculative_attention",
        "a sink is float32 [H] and adds exp(sink_h) to the softmax's denominator, no value",
        "I",
        "one key of score 0 and value 1 with a sink of 0: the output is 1/2",
    ),
    Assumption(
        "attention-padding",
        "kunlun_ops.speculative_attention",
        "a request of length 0 (a padded row) gives zeros, and its block table is not read",
        "I",
        "lengths [4, 0] with block numbers out of range in the second row",
    ),
    Assumption(
        "attention-unowned-memory",
        "kunlun_ops.prefill_attention, kunlun_ops.speculative_attention",
        "what lies in a page past the request's end does not matter, not even NaN",
        "I",
        "fill the rest of the last page with NaN",
    ),
    Assumption(
        "decode-bottom-right-causal",
        "kunlun_ops.speculative_attention",
        "with qlen > 1, row i sees keys j <= length - qlen + i",
        "I",
        "qlen=2 on three keys of equal score with values 1, 2, 4: the rows are 3/2 and 7/3",
    ),
    Assumption(
        "decode-window-counts-itself",
        "kunlun_ops.speculative_attention",
        "max_window_size = W leaves W keys visible, the query's own among them; -1 is off",
        "I",
        "as prefill-window-counts-itself with qlen=1 on four keys",
    ),
    Assumption(
        "decode-real-scale",
        "kunlun_ops.speculative_attention",
        "scale multiplies the scores as it is; 0.0 is no default",
        "H",
        "scale=0.0 on two keys of different scores: the values' mean, or attention with 1/sqrt(D)",
    ),
    Assumption(
        "merge-empty-side",
        "kunlun_ops.attention_merge_stage",
        "a side of log-sum-exp -1e30 is empty: the other side comes back; two such sides of zeros "
        "give zeros and at most -1e29 (-inf on both sides would give NaN)",
        "I",
        "merge 3 and 5 with -1e30 on one side, and zeros with -1e30 on both",
    ),
    Assumption(
        "flash-attn-sizes",
        "flash_attn.flash_attn_func, flash_attn.flash_attn_varlen_func",
        "heads of any size up to 256 are taken, 72 and 80 among them, in float32 too",
        "I",
        "equal scores, values 1 and 3, heads of 72: 2 in every column, for each dtype",
    ),
    Assumption(
        "flash-attn-shared-heads",
        "flash_attn.flash_attn_func, flash_attn.flash_attn_varlen_func",
        "with fewer KV heads, query head h reads KV head h // (H / KVH)",
        "I",
        "six query heads on two KV heads whose values are 1 and 2: 1 1 1 2 2 2",
    ),
    Assumption(
        "flash-attn-longest",
        "flash_attn.flash_attn_varlen_func",
        "max_seqlen_q and max_seqlen_k may be more than the longest sequence, at little cost",
        "I",
        "the same call with the longest and with the total: equal results, about equal times",
    ),
    Assumption(
        "flash-attn-packed-scale",
        "flash_attn.flash_attn_varlen_func",
        "softmax_scale is taken, as by flash_attn_func",
        "I",
        "softmax_scale=0.0: the mean of the values",
    ),
    Assumption(
        "flash-attn-empty",
        "flash_attn.flash_attn_varlen_func",
        "a sequence without keys gives zeros",
        "I",
        "cu_seqlens_q [0, 2, 4] with cu_seqlens_k [0, 0, 2]",
    ),
    Assumption(
        "norm-sum-before-rounding",
        "kunlun_ops.add_rmsnorm, kunlun_ops.gemma_add_rmsnorm",
        "the norm is of the float32 sum, not of the rounded one that goes to residual_output",
        "I",
        "float16 rows whose sum needs more than 11 bits, compared with both formulas",
    ),
    Assumption(
        "norm-weight-dtype",
        "kunlun_ops.rmsnorm, kunlun_ops.add_rmsnorm",
        "the weight has the dtype of x (older wheels wanted float32)",
        "H",
        "float16 rows with a float16 and with a float32 weight",
    ),
    Assumption(
        "gemma-norm-is-2d",
        "kunlun_ops.gemma_rmsnorm, kunlun_ops.gemma_add_rmsnorm",
        "x has two dimensions",
        "H",
        "call with [2, 3, hidden] and compare with [6, hidden]",
    ),
    Assumption(
        "gelu-exists",
        "kunlun_ops.gelu",
        "gelu(x, out) is there and is the exact form",
        "H",
        "compare with erf and with the tanh form at x = 2",
    ),
    Assumption(
        "fused-rope-epsilon",
        "kunlun_ops.split_norm_rope_neox, xspeedgate_ops.split_norm_rope_neox",
        "the epsilon inside is 1e-6",
        "I",
        "heads of magnitude 1e-3 compared with 1e-5, 1e-6 and 0",
    ),
    Assumption(
        "fused-rope-table",
        "kunlun_ops.split_norm_rope_neox",
        "rotary_pos_embedding is [max_seqlen, rotary_dim], cosines then sines, in the dtype of qkv",
        "I",
        "one token at position 1 against rotary_embedding on the same table",
    ),
    Assumption(
        "fused-rope-plain-weight",
        "kunlun_ops.split_norm_rope_neox",
        "the head norm multiplies by w",
        "I",
        "weights of 0: zeros, or the bare norm",
    ),
    Assumption(
        "gated-rope-gemma-weight",
        "xspeedgate_ops.split_norm_rope_neox",
        "the head norm multiplies by 1 + w",
        "I",
        "weights of 0: the bare norm, or zeros",
    ),
    Assumption(
        "gated-rope-without-gate",
        "xspeedgate_ops.split_norm_rope_neox",
        "with attn_output_gate=False the fourth result is an empty tensor",
        "I",
        "call without a gate and look at the result",
    ),
    Assumption(
        "mrope-interleaved",
        "xspeedgate_ops.mrotary_embedding_fwd_v0",
        "interleaved sections: frequency i takes the height if i % 3 == 1 and i < 3 sec1, the "
        "width if i % 3 == 2 and i < 3 sec2, else the time",
        "I",
        "sections 2, 3, 3 on 8 frequencies with positions 0, 1, 2: which frequencies turn, and how "
        "far",
    ),
    Assumption(
        "mrope-table",
        "xspeedgate_ops.mrotary_embedding_fwd_v0",
        "the table is [positions, rotary_dim], cosines then sines, in the dtype of query; the "
        "results are new tensors and the inputs stay as they are",
        "I",
        "compare query before and after, and the results' addresses with the inputs'; then with a "
        "float32 table and float16 query",
    ),
    Assumption(
        "flashinfer-rope-table",
        "xspeedgate_ops.flashinfer_rotary_embedding",
        "the table is float32 or of the dtype of query, positions are int64, the results are new "
        "tensors and the inputs stay as they are",
        "I",
        "float16 heads at position 1000 with a float32 and with a float16 table; compare query "
        "before and after",
    ),
    Assumption(
        "flashinfer-rope-layout",
        "xspeedgate_ops.flashinfer_rotary_embedding",
        "query and key are [T, heads * head_size] or [T, heads, head_size]; the first rotary_dim "
        "dimensions of a head turn, the others are copied",
        "I",
        "the same heads in both shapes, rotary_dim half of head_size",
    ),
    Assumption(
        "rope-vit-table",
        "xspeedgate_ops.rope_vit",
        "freqs[:, 0] are cosines, freqs[:, 1] sines, float32; the first rot dimensions of a head "
        "turn, in pairs half of rot apart unless interleaved",
        "I",
        "one head (1, 0, 0, 0) with cosines 0 and sines 1: the 1 moves to dimension 2, or to 1 if "
        "interleaved",
    ),
    Assumption(
        "gated-norm-without-gate",
        "kunlun_ops.rms_norm_gated",
        "z = None means no gate",
        "I",
        "one row with z = None beside rmsnorm of the same row",
    ),
    Assumption(
        "sampling-joint-order",
        "kunlun_ops.top_k_top_p_sampling_from_probs",
        "top-k is applied first and the nucleus is taken of what is left, renormalised",
        "I",
        "probabilities .4 .3 .2 .1, k=2, p=.5, many draws: only the first token, or the second too",
    ),
    Assumption(
        "sampling-nucleus",
        "kunlun_ops.top_p_sampling_from_probs",
        "the nucleus is the fewest tokens whose mass is at least top_p; the first is always in",
        "I",
        "probabilities .5 .3 .2, p=.5, many draws: only the first token",
    ),
    Assumption(
        "sampling-ids",
        "kunlun_ops.top_p_sampling_from_probs, kunlun_ops.top_k_sampling_from_probs, "
        "kunlun_ops.top_k_top_p_sampling_from_probs",
        "the result is int32 [B]",
        "I",
        "look at the dtype and shape of one call",
    ),
    Assumption(
        "sampling-full-k",
        "kunlun_ops.top_k_sampling_from_probs, kunlun_ops.top_k_top_p_sampling_from_probs",
        "top_k lies in [1, V], and V means no filter",
        "I",
        "k = V for one row and 5 for another, many draws",
    ),
)
"""In the order of the contract's sections."""
