# SPDX-License-Identifier: Apache-2.0
"""The experts' matrix products, and bringing their results back to the tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vllm_kunlun.emulator.checks import (
    FLOATS,
    check_range,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.functions.int8_products import scaled_product
from vllm_kunlun.emulator.kernels.moe import grouped_product
from vllm_kunlun.ops.contract.limits import FUSED_PAIRS

__all__ = ["fused_moe", "grouped_mm", "moe_fc", "moe_post"]

_INT32 = (torch.int32,)
_FLOAT32 = (torch.float32,)


def moe_fc(
    *,
    x: torch.Tensor,
    weight: torch.Tensor,
    sorted_tokens_num_lod: torch.Tensor,
    sorted_tokens_idx: torch.Tensor,
    moe_topk: int,
    y: torch.Tensor,
    act: str | None = None,
    x_perchannel_max: torch.Tensor | None = None,
    w_perchannel_max: torch.Tensor | None = None,
    topk_ids: torch.Tensor | None = None,
    topk_w: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    tgemm_type: object = None,
    tweight_type: object = None,
    scale_n: int = 0,
    scale_k: int = 0,
    use_pack_int4: bool = False,
    sort_mode: bool = True,
) -> None:
    """``y[r] = x[r] W[e(r)]^T`` for rows in sorted order; rows past the LOD stay as they are.

    ``act="SWISH_GLU"`` stores ``silu(gate) * up``, in a ``y`` of that width or in the first half of
    one twice as wide, and leaves the second half as it is. int8: ``acc * (xmax / 127) * (wmax /
    127)``. ``topk_ids`` are the choices that the LOD was made of, negative where a pair belongs to
    no expert here; they change no value.

    Shapes: x ``[M k, K]``, weight ``[E, N, K]``, sorted_tokens_num_lod int32 ``[E + 1]``,
    sorted_tokens_idx int32 of ``M k`` elements, y ``[M, k, N]`` or narrow (written),
    x_perchannel_max float32 ``[M k, 1]``, w_perchannel_max float32 ``[E, N, 1]``, topk_ids int32
    ``[M, k]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``kunlun_ops.moe_fc``.
    """
    name = "moe_fc"
    int8 = x.dtype == torch.int8
    check_tensor(name, "x", x, (*FLOATS, torch.int8), 2)
    check_tensor(name, "weight", weight, (x.dtype,), 3)
    experts, out, width = weight.shape
    pairs = x.shape[0]
    check_shape(name, "x", x, (pairs, width))
    check_tensor(name, "y", y, FLOATS if int8 else (x.dtype,), 3)
    require(moe_topk > 0 and pairs % moe_topk == 0, name, "moe_topk", f"a divisor of {pairs}",
            moe_topk)  # fmt: skip
    require(act in (None, "SWISH_GLU"), name, "act", 'None or "SWISH_GLU"', act)
    require(act is None or out % 2 == 0, name, "weight", "of an even number of rows for SWISH_GLU",
            out)  # fmt: skip
    narrow = act is not None and y.shape[-1] == out // 2
    stored = out // 2 if narrow else out
    check_shape(name, "y", y, (pairs // moe_topk, moe_topk, stored))
    check_tensor(name, "sorted_tokens_num_lod", sorted_tokens_num_lod, _INT32, 1)
    check_shape(name, "sorted_tokens_num_lod", sorted_tokens_num_lod, (experts + 1,))
    check_tensor(name, "sorted_tokens_idx", sorted_tokens_idx, _INT32)
    require(sorted_tokens_idx.numel() == pairs, name, "sorted_tokens_idx", f"of {pairs} elements",
            tuple(sorted_tokens_idx.shape))  # fmt: skip
    for argument, value in (("bias", bias), ("topk_w", topk_w)):
        require(value is None, name, argument, "None (no caller has ever passed it)", "a tensor")
    require(not use_pack_int4, name, "use_pack_int4", "False", use_pack_int4)
    ends = _check_lod(name, sorted_tokens_num_lod, pairs)
    if topk_ids is not None:
        _check_choices(name, topk_ids, sorted_tokens_num_lod, (pairs // moe_topk, moe_topk))
    rows, offsets = ends[-1], sorted_tokens_num_lod[1:]
    flat = y.view(pairs, stored)[:rows]
    if act is None and x.dtype == torch.float32:
        grouped_product(x[:rows], weight, offsets, flat)
        return
    if int8:
        check_tensor(name, "x_perchannel_max", x_perchannel_max, _FLOAT32)
        check_tensor(name, "w_perchannel_max", w_perchannel_max, _FLOAT32)
        assert x_perchannel_max is not None and w_perchannel_max is not None
        check_shape(name, "x_perchannel_max", x_perchannel_max, (pairs, 1))
        check_shape(name, "w_perchannel_max", w_perchannel_max, (experts, out, 1))
        in_place = act is None and y.dtype == torch.float32
        result = flat if in_place else torch.empty(rows, out)
        scaled_product(
            x.numpy()[:rows], weight.numpy(), offsets.numpy(), x_perchannel_max.numpy()[:rows],
            w_perchannel_max.numpy(), result.numpy(),
        )  # fmt: skip
    else:
        result = grouped_mm(x[:rows], weight, offsets)
    if act is None:
        if result is not flat:
            flat.copy_(result)
    else:
        gate, up = result.float().chunk(2, dim=-1)
        flat[:, : out // 2].copy_(F.silu(gate) * up)


def moe_post(
    x: torch.Tensor,
    moe_index: torch.Tensor,
    normed_scale: torch.Tensor,
    dequant_scale: torch.Tensor,
    y: torch.Tensor,
    /,
) -> None:
    """``y[t] = sum over j of normed_scale[t, j] * dequant_scale[t, j] * x[moe_index[t, j]]``.

    Shapes: x ``[M, k, N]``, moe_index int32 and both scales float32 ``[M, k]``, y ``[M, N]``
    (written).
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``kunlun_ops.moe_post``.
    """
    name = "moe_post"
    check_tensor(name, "x", x, dims=3)
    tokens, top_k, width = x.shape
    check_tensor(name, "moe_index", moe_index, _INT32, 2)
    check_shape(name, "moe_index", moe_index, (tokens, top_k))
    check_range(name, "moe_index", moe_index, tokens * top_k)
    for argument, value in (("normed_scale", normed_scale), ("dequant_scale", dequant_scale)):
        check_tensor(name, argument, value, _FLOAT32, 2)
        check_shape(name, argument, value, (tokens, top_k))
    check_tensor(name, "y", y, (x.dtype,), 2)
    check_shape(name, "y", y, (tokens, width))
    rows = x.view(tokens * top_k, width).index_select(0, moe_index.flatten()).float()
    weights = (normed_scale * dequant_scale).unsqueeze(1)
    y.copy_(torch.bmm(weights, rows.view(tokens, top_k, width)).squeeze(1))


def fused_moe(
    x: torch.Tensor,
    w13: torch.Tensor,
    w2: torch.Tensor,
    normed_score: torch.Tensor,
    sorted_tokens_num_lod: torch.Tensor,
    sorted_tokens_idx: torch.Tensor,
    experts_num_lod: torch.Tensor,
    /,
) -> torch.Tensor:
    """Each choice's ``score * (silu(x gate^T) * (x up^T)) down^T``, for few pairs.

    Shapes: x ``[M, N]``, w13 ``[E, 2 I, N]``, w2 ``[E, N, I]``, normed_score ``[M, k]``, both LODs
    int32 ``[E + 1]``, sorted_tokens_idx int32 ``[M k]`` -> ``[M, k, N]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 5, ``xspeedgate_ops.fused_moe``.
    """
    name = "xspeedgate_ops.fused_moe"
    check_tensor(name, "x", x, dims=2)
    tokens, width = x.shape
    check_tensor(name, "w13", w13, (x.dtype,), 3)
    experts, double, _ = w13.shape
    check_shape(name, "w13", w13, (experts, double, width))
    require(double % 2 == 0, name, "w13", "of an even number of rows", double)
    check_tensor(name, "w2", w2, (x.dtype,), 3)
    check_shape(name, "w2", w2, (experts, width, double // 2))
    check_tensor(name, "normed_score", normed_score, (x.dtype,), 2)
    top_k = normed_score.shape[1]
    check_shape(name, "normed_score", normed_score, (tokens, top_k))
    pairs = tokens * top_k
    require(pairs < FUSED_PAIRS, name, "normed_score", f"fewer than {FUSED_PAIRS} pairs", pairs)
    check_tensor(name, "sorted_tokens_idx", sorted_tokens_idx, _INT32, 1)
    check_shape(name, "sorted_tokens_idx", sorted_tokens_idx, (pairs,))
    for argument, lod in (
        ("sorted_tokens_num_lod", sorted_tokens_num_lod),
        ("experts_num_lod", experts_num_lod),
    ):
        check_tensor(name, argument, lod, _INT32, 1)
        check_shape(name, argument, lod, (experts + 1,))
    ends = _check_lod(name, sorted_tokens_num_lod, pairs)
    require(ends[-1] == pairs, name, "sorted_tokens_num_lod", f"ending at {pairs}", ends[-1])
    check_range(name, "sorted_tokens_idx", sorted_tokens_idx, pairs)
    expand = x.new_empty(pairs, width)
    expand[sorted_tokens_idx.long()] = x.repeat_interleave(top_k, dim=0)
    offsets = sorted_tokens_num_lod[1:]
    gate, up = grouped_mm(expand, w13, offsets).float().chunk(2, dim=-1)
    inner = (F.silu(gate) * up).to(x.dtype)
    rows = grouped_mm(inner, w2, offsets).index_select(0, sorted_tokens_idx)
    return rows.view(tokens, top_k, width).mul_(normed_score.unsqueeze(-1))


def grouped_mm(x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """``x[r] weight[e(r)]^T``, where group ``e`` ends before row ``ends[e]``.

    16-bit products are torch's, whose rows must fill 16 bytes: zeros fill them up. Torch before 2.8
    lacks them: there float32 stands in, over the experts that have rows.

    Shapes: x ``[R, K]``, weight ``[E, N, K]``, ends int32 ``[E]`` -> ``[R, N]``.
    """
    if x.shape[0] == 0:
        return x.new_empty(0, weight.shape[1])
    if x.dtype == torch.float32:
        return grouped_product(x, weight, ends, x.new_empty(x.shape[0], weight.shape[1]))
    if not hasattr(torch, "_grouped_mm"):
        return _grouped_mm_in_float32(x, weight, ends)
    lanes = 16 // x.element_size()
    missing = -x.shape[1] % lanes
    missing_rows = -weight.shape[1] % lanes
    if missing or missing_rows:
        x = F.pad(x, (0, missing))
        weight = F.pad(weight, (0, missing, 0, missing_rows))
    rows = weight.shape[1] - missing_rows
    return torch._grouped_mm(x, weight.transpose(1, 2), offs=ends)[:, :rows]


def _grouped_mm_in_float32(
    x: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    active = ends.diff(prepend=ends.new_zeros(1)).nonzero().squeeze(1)
    out = torch.empty(x.shape[0], weight.shape[1])
    return grouped_product(x.float(), weight[active].float(), ends[active], out).to(x.dtype)


def _check_lod(function: str, lod: torch.Tensor, pairs: int) -> list[int]:
    values: list[int] = lod.tolist()
    ok = values[0] == 0 and values == sorted(values) and values[-1] <= pairs
    require(ok, function, "sorted_tokens_num_lod", f"rising from 0 to at most {pairs}", values)
    return values


def _check_choices(
    function: str, ids: torch.Tensor, lod: torch.Tensor, shape: tuple[int, int]
) -> None:
    check_tensor(function, "topk_ids", ids, _INT32, 2)
    check_shape(function, "topk_ids", ids, shape)
    counts = lod.diff()
    check_range(function, "topk_ids", ids, counts.numel(), low=-1)
    here = torch.bincount(ids[ids >= 0], minlength=counts.numel())
    require(torch.equal(here, counts.long()), function, "topk_ids",
            f"of as many choices an expert as the LOD says, {counts.tolist()}",
            here.tolist())  # fmt: skip
