# SPDX-License-Identifier: Apache-2.0
"""MLA: prefill over heads that are expanded from the latent, and the int8 products per head."""

from __future__ import annotations

import math

import numpy as np
import torch

from vllm_kunlun.emulator.checks import (
    VendorContractError,
    check_lod,
    check_same,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.functions.attention_grouped import (
    Mask,
    attend,
    packed_heads,
    plan,
    scatter_tokens,
)

__all__ = ["attention", "mla_bmm_I8"]


def attention(
    *,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    out: torch.Tensor,
    is_causal: bool,
    is_prefill: bool,
    prefill_len: int = 0,
    k_perchannel_scale: None = None,
    v_perchannel_scale: None = None,
    smooth: None = None,
    context_seq_lod_cpu: torch.Tensor,
    context_seq_lod_xpu: torch.Tensor,
    slot_mapping_cpu: None = None,
    slot_mapping_xpu: None = None,
    v_trans: bool = False,
    v_trans_threshold: int = 0,
    alpha: float = 1.0,
    softmax_lse: torch.Tensor | None = None,
    context_kvlen_lod_cpu: torch.Tensor | None = None,
    context_kvlen_lod_xpu: torch.Tensor | None = None,
    unpadded_lse: bool = False,
) -> None:
    """Attention over packed keys: ``out = softmax(q . k * alpha / sqrt(D)) v``.

    Causal: keys are those of the queries' own tokens. Not causal: every query sees every key of its
    request, and ``context_kvlen_lod`` is the LOD of the keys. ``softmax_lse`` gets the natural
    log-sum-exp, float32 ``[H, T]`` with ``unpadded_lse``. A request without keys gives zeros and
    -inf.

    Shapes: q and out (written) ``[T, H, D]``, k_cache and v_cache ``[Tk, H, D]``, LODs int32
    ``[B + 1]`` on host and device.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 2, ``kunlun_ops.attention``.
    """
    name = "attention"
    for argument, value, constant in (
        ("is_prefill", is_prefill, True),
        ("prefill_len", prefill_len, 0),
        ("k_perchannel_scale", k_perchannel_scale, None),
        ("v_perchannel_scale", v_perchannel_scale, None),
        ("smooth", smooth, None),
        ("slot_mapping_cpu", slot_mapping_cpu, None),
        ("slot_mapping_xpu", slot_mapping_xpu, None),
        ("v_trans", v_trans, False),
        ("v_trans_threshold", v_trans_threshold, 0),
    ):
        expected = f"{constant} (no caller has passed anything else)"
        require(value == constant, name, argument, expected, value)
    check_tensor(name, "q", q, dims=3)
    tokens, heads, size = q.shape
    check_same(name, "out", out, q)
    check_tensor(name, "k_cache", k_cache, (q.dtype,), 3)
    keys = k_cache.shape[0]
    check_shape(name, "k_cache", k_cache, (keys, heads, size))
    check_same(name, "v_cache", v_cache, k_cache)
    query_lod = check_lod(name, "context_seq_lod", context_seq_lod_cpu, context_seq_lod_xpu)
    if context_kvlen_lod_cpu is None and context_kvlen_lod_xpu is None:
        argument, kv_lod = "context_seq_lod_cpu", query_lod
    else:
        expected = "None with is_causal, whose keys are those of the queries' own tokens"
        require(not is_causal, name, "context_kvlen_lod_cpu", expected, context_kvlen_lod_cpu)
        argument = "context_kvlen_lod_cpu"
        kv_lod = check_lod(name, "context_kvlen_lod", context_kvlen_lod_cpu, context_kvlen_lod_xpu)
    require(query_lod[-1] == tokens, name, "context_seq_lod_cpu", f"of {tokens} queries", query_lod)
    require(kv_lod[-1] == keys, name, argument, f"of {keys} keys", kv_lod)
    require(len(kv_lod) == len(query_lod), name, argument,
            f"as long as that of the queries, {len(query_lod)}", kv_lod)  # fmt: skip
    if softmax_lse is not None:
        require(unpadded_lse is True, name, "unpadded_lse", "True with softmax_lse", unpadded_lse)
        check_tensor(name, "softmax_lse", softmax_lse, (torch.float32,))
        check_shape(name, "softmax_lse", softmax_lse, (heads, tokens))
    if not np.diff(kv_lod).all():
        out.zero_()
        if softmax_lse is not None:
            softmax_lse.fill_(-math.inf)
    mask = Mask(is_causal)
    for group in plan(tuple(query_lod), tuple(kv_lod)):
        key, value = (packed_heads(packed, group) for packed in (k_cache, v_cache))
        output, lse = attend(q, key, value, group, mask, alpha / math.sqrt(size))
        scatter_tokens(out, output, group)
        if softmax_lse is not None:
            scatter_tokens(softmax_lse.T.unsqueeze(-1), lse.unsqueeze(-1), group)


def mla_bmm_I8(
    x: torch.Tensor,
    weight_i8: torch.Tensor,
    weight_max: torch.Tensor,
    out: torch.Tensor,
    sorted_tokens_num_lod: torch.Tensor,
    sorted_tokens_idx: torch.Tensor,
    /,
    *,
    trans: bool = False,
) -> None:
    """``out[b, n] = W_n x[b, n]`` with ``W_n = int8 weight * weight_max / 127``, row by row.

    The activations stay as they are; products and sums are float32. The LOD and the order of
    tokens are those of ``B`` tokens for each head.

    Shapes: x ``[B, N, I]``, weight_i8 int8 ``[N, O, I]``, weight_max float32 ``[N O, 1]``, out
    ``[B, N, O]`` (written), sorted_tokens_num_lod int32 ``[N + 1]``, sorted_tokens_idx int32
    ``[N B]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 3, ``kunlun_ops.mla_bmm_I8``.
    """
    name = "mla_bmm_I8"
    require(trans is False, name, "trans", "False", trans)
    check_tensor(name, "x", x, dims=3)
    tokens, heads, inner = x.shape
    check_tensor(name, "weight_i8", weight_i8, (torch.int8,), 3)
    outer = weight_i8.shape[1]
    check_shape(name, "weight_i8", weight_i8, (heads, outer, inner))
    check_tensor(name, "weight_max", weight_max, (torch.float32,))
    check_shape(name, "weight_max", weight_max, (heads * outer, 1))
    check_tensor(name, "out", out, (x.dtype,))
    check_shape(name, "out", out, (tokens, heads, outer))
    for argument, value, count, step in (
        ("sorted_tokens_num_lod", sorted_tokens_num_lod, heads + 1, tokens),
        ("sorted_tokens_idx", sorted_tokens_idx, heads * tokens, 1),
    ):
        check_tensor(name, argument, value, (torch.int32,), 1)
        check_shape(name, argument, value, (count,))
        if not torch.equal(value, torch.arange(count, dtype=torch.int32) * step):
            expected = f"{count} numbers from 0 in steps of {step}"
            raise VendorContractError(name, argument, expected, value.tolist())
    product = torch.bmm(x.transpose(0, 1).float(), weight_i8.transpose(1, 2).float())  # [N, B, O]
    product *= (weight_max / 127.0).view(heads, 1, outer)
    out.copy_(product.transpose(0, 1))
