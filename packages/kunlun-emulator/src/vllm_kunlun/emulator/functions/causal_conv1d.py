# SPDX-License-Identifier: Apache-2.0
"""Depthwise causal convolution with SiLU, and the last inputs of each request.

A state ``[state_len, dim]`` holds the last ``width - 1`` inputs in its first rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vllm_kunlun.emulator.checks import (
    check_equal_copies,
    check_lod,
    check_range,
    check_same,
    check_shape,
    check_tensor,
    require,
)
from vllm_kunlun.emulator.functions.state_pool import check_pool

__all__ = ["causal_conv1d_fn", "causal_conv1d_update"]


def causal_conv1d_fn(
    x: torch.Tensor,
    out: torch.Tensor,
    dim: int,
    cu_seqlen: int,
    weight: torch.Tensor,
    width: int,
    conv_states: torch.Tensor,
    num_cache_lines: int,
    state_width: int,
    query_start_loc_cpu: torch.Tensor,
    query_start_loc_xpu: torch.Tensor,
    batch_size: int,
    bias: torch.Tensor | None,
    /,
    *,
    cache_indices_cpu: torch.Tensor,
    cache_indices_xpu: torch.Tensor,
    has_initial_state_cpu: torch.Tensor,
    has_initial_state_xpu: torch.Tensor,
    act: str,
    state_seq_stride: int,
) -> None:
    """``out_t = silu(sum_i weight[:, i] x_{t - width + 1 + i} + bias)`` over packed sequences.

    Inputs before the first token come from the state where ``has_initial_state``, else they are
    zeros. The state then holds the last ``width - 1`` inputs. A negative index is skipped, and the
    sequence's rows of ``out`` stay as they are.

    Shapes: x and out (written) ``[T, dim]``, weight ``[dim, width]``, bias ``[dim]``, conv_states
    ``[num_cache_lines, state_width, dim]`` (written); int32 on host and device: query_start_loc
    ``[B + 1]``, cache_indices and has_initial_state (0 or 1) ``[B]``.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``kunlun_ops.causal_conv1d_fn``.
    """
    name = "causal_conv1d_fn"
    check_tensor(name, "x", x, dims=2)
    for argument, given, expected in (
        ("cu_seqlen", cu_seqlen, x.shape[0]),
        ("dim", dim, x.shape[1]),
        ("width", width, weight.shape[-1]),
        ("num_cache_lines", num_cache_lines, conv_states.shape[0]),
        ("state_width", state_width, conv_states.shape[1]),
    ):
        require(given == expected, name, argument, str(expected), given)
    check_same(name, "out", out, x)
    _check(name, x, weight, bias, "conv_states", conv_states, act, state_seq_stride)
    lod = check_lod(name, "query_start_loc", query_start_loc_cpu, query_start_loc_xpu)
    require(len(lod) == batch_size + 1, name, "batch_size", str(len(lod) - 1), batch_size)
    require(lod[-1] == cu_seqlen, name, "query_start_loc_cpu", f"up to {cu_seqlen}", lod)
    check_equal_copies(name, "cache_indices", cache_indices_cpu, cache_indices_xpu, batch_size)
    check_range(name, "cache_indices_cpu", cache_indices_cpu, num_cache_lines, low=-(1 << 31))
    check_equal_copies(name, "has_initial_state", has_initial_state_cpu, has_initial_state_xpu,
                       batch_size)  # fmt: skip
    check_range(name, "has_initial_state_cpu", has_initial_state_cpu, 2)

    past = width - 1
    start = query_start_loc_cpu.long()
    lengths, indices = start.diff(), cache_indices_cpu.long()
    first = start[:-1] + past * torch.arange(batch_size)  # of each sequence, its past included
    token = torch.arange(cu_seqlen) + past * (1 + torch.repeat_interleave(lengths))
    extended = x.new_zeros(cu_seqlen + past * batch_size + width, dim)
    extended[token] = x
    remembered = indices * has_initial_state_cpu + (has_initial_state_cpu - 1)  # -1: none
    _copy_past(extended, first, conv_states, remembered, past)

    windows = extended.unfold(0, width, 1)[token - past]  # [T, dim, width]
    taken = torch.repeat_interleave(indices >= 0, lengths)
    out[taken] = _convolve(windows, weight, bias).to(x.dtype)[taken]
    kept = indices >= 0
    ends = (first + lengths)[kept].unsqueeze(1) + torch.arange(past)
    conv_states[:, :past].index_copy_(0, indices[kept], extended[ends])


def causal_conv1d_update(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    conv_state: torch.Tensor,
    cache_seqlens: None,
    bias: torch.Tensor | None,
    /,
    *,
    conv_state_indices_cpu: torch.Tensor,
    conv_state_indices_xpu: torch.Tensor,
    act: str,
    state_seq_stride: int,
    is_ncw: bool,
) -> None:
    """:func:`causal_conv1d_fn` for one token ``x[b, 0]`` of each request, always with a past.

    Shapes: x and out (written) ``[B, 1, dim]``, weight ``[dim, width]``, bias ``[dim]``, conv_state
    ``[lines, state_len, dim]`` (written), conv_state_indices int32 ``[B]`` on host and device.
    Raises: VendorContractError: an argument is not what the card takes.
    Source: contract section 8, ``kunlun_ops.causal_conv1d_update``.
    """
    name = "causal_conv1d_update"
    require(cache_seqlens is None, name, "cache_seqlens", "None", type(cache_seqlens))
    require(is_ncw is False, name, "is_ncw", "False", is_ncw)
    check_tensor(name, "x", x, dims=3)
    requests, one, _ = x.shape
    require(one == 1, name, "x", "[B, 1, dim]", tuple(x.shape))
    check_same(name, "out", out, x)
    _check(name, x, weight, bias, "conv_state", conv_state, act, state_seq_stride)
    check_equal_copies(name, "conv_state_indices", conv_state_indices_cpu,
                       conv_state_indices_xpu, requests)  # fmt: skip
    check_range(name, "conv_state_indices_cpu", conv_state_indices_cpu, conv_state.shape[0],
                low=-(1 << 31))  # fmt: skip
    past = weight.shape[1] - 1
    kept = conv_state_indices_cpu >= 0
    indices = conv_state_indices_cpu[kept].long()
    windows = torch.cat((conv_state[indices, :past], x[kept]), 1)  # [b, width, dim]
    out[kept, 0] = _convolve(windows.transpose(1, 2), weight, bias).to(x.dtype)
    conv_state[:, :past].index_copy_(0, indices, windows[:, 1:])


def _check(
    function: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    argument: str,
    states: torch.Tensor,
    act: str,
    stride: int,
) -> None:
    dim = x.shape[-1]
    require(act == "SWISH", function, "act", "'SWISH'", act)
    check_tensor(function, "weight", weight, (x.dtype,), 2)
    width = weight.shape[1]
    check_shape(function, "weight", weight, (dim, width))
    if bias is not None:
        check_tensor(function, "bias", bias, (x.dtype,), 1)
        check_shape(function, "bias", bias, (dim,))
    check_pool(function, argument, states, (x.dtype,), (None, dim))
    require(states.shape[1] >= width - 1, function, argument, f"of {width - 1} rows or more",
            tuple(states.shape))  # fmt: skip
    require(stride == states.stride(0), function, "state_seq_stride", str(states.stride(0)),
            stride)  # fmt: skip


def _copy_past(
    extended: torch.Tensor,
    first: torch.Tensor,
    states: torch.Tensor,
    indices: torch.Tensor,
    past: int,
) -> None:
    """Put the first ``past`` rows of each state named by ``indices`` in front of its sequence."""
    known = indices >= 0
    rows = first[known].unsqueeze(1) + torch.arange(past)
    extended[rows] = states[indices[known], :past]


def _convolve(
    windows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Windows ``[n, dim, width]`` to float32 ``[n, dim]``."""
    total = windows.float().mul(weight).sum(-1)
    return F.silu(total if bias is None else total.add_(bias))
