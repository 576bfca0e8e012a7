# SPDX-License-Identifier: Apache-2.0
"""Causal convolution of linear attention: the vendor's functions, arguments as the contract says.

A state ``[state_len, dim]`` (channels last) holds the last ``width - 1`` inputs of a request in its
first rows. States may lie apart in memory: their stride is an argument. Both functions raise
VendorContractError (emulator) for an argument that the card would misread. Source: contract
section 8.
"""

from __future__ import annotations

from torch import Tensor

from vllm_kunlun.ops.vendor_ops.library import function

__all__ = ["causal_conv1d_fn", "causal_conv1d_update"]


def causal_conv1d_fn(
    x: Tensor,
    out: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    conv_states: Tensor,
    query_start_loc_cpu: Tensor,
    query_start_loc: Tensor,
    *,
    cache_indices_cpu: Tensor,
    cache_indices_xpu: Tensor,
    has_initial_state_cpu: Tensor,
    has_initial_state_xpu: Tensor,
) -> None:
    """``out_t = silu(sum_i weight[:, i] x_{t - width + 1 + i} + bias)`` over packed sequences.

    Shapes: x and out ``[T, dim]``, weight ``[dim, width]``, bias ``[dim]``, conv_states ``[blocks,
    state_len, dim]`` (read where ``has_initial_state``, then written), int32 query_start_loc
    ``[B + 1]``, cache_indices and has_initial_state (0 or 1) ``[B]``.
    """
    tokens, dim = x.shape
    function("kunlun_ops", "causal_conv1d_fn")(
        x,
        out,
        dim,
        tokens,
        weight,
        weight.shape[1],
        conv_states,
        conv_states.shape[0],
        conv_states.shape[1],
        query_start_loc_cpu,
        query_start_loc,
        cache_indices_cpu.shape[0],
        bias,
        cache_indices_cpu=cache_indices_cpu,
        cache_indices_xpu=cache_indices_xpu,
        has_initial_state_cpu=has_initial_state_cpu,
        has_initial_state_xpu=has_initial_state_xpu,
        act="SWISH",
        state_seq_stride=conv_states.stride(0),
    )


def causal_conv1d_update(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    conv_state: Tensor,
    bias: Tensor | None,
    *,
    conv_state_indices_cpu: Tensor,
    conv_state_indices_xpu: Tensor,
) -> None:
    """:func:`causal_conv1d_fn` for one token of each request, always with its state.

    Shapes: x and out ``[B, 1, dim]``, weight ``[dim, width]``, bias ``[dim]``, conv_state
    ``[blocks, state_len, dim]`` (written), indices int32 ``[B]``.
    """
    function("kunlun_ops", "causal_conv1d_update")(
        x,
        weight,
        out,
        conv_state,
        None,
        bias,
        conv_state_indices_cpu=conv_state_indices_cpu,
        conv_state_indices_xpu=conv_state_indices_xpu,
        act="SWISH",
        state_seq_stride=conv_state.stride(0),
        is_ncw=False,
    )
