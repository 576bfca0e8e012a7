# SPDX-License-Identifier: Apache-2.0
"""Assumptions about dense attention."""

from vllm_kunlun.ops.contract.assumptions.assumption import Assumption

__all__ = ["ATTENTION"]

ATTENTION = (
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
)
