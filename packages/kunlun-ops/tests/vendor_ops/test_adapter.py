# SPDX-License-Identifier: Apache-2.0
"""The adapter passes each argument as the contract says: which library, by position or by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import pytest
import torch
from support.recorder import Recorder

from vllm_kunlun.emulator import flash_attn, kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract.functions import called

SURFACES = {"flash_attn": flash_attn, "kunlun_ops": kunlun_ops, "xspeedgate_ops": xspeedgate_ops}

SEPARATELY = {
    "flashinfer_rotary_embedding",
    "attention",
    "flash_attn_varlen_func",
    "causal_conv1d_fn",
    "causal_conv1d_update",
    "chunk_fwd_o",
    "chunk_gated_delta_rule_fwd_h",
    "chunk_local_cumsum",
    "chunk_scaled_dot_kkt_fwd",
    "fused_recurrent_gated_delta_rule_fwdv2",
    "recompute_w_u_fwd",
    "solve_tril_ns",
    "fwd_kvcache_mla",
    "paged_attention",
    "sparse_prefill_fwd_opt",
    "I8_mqa_logits",
    "I8_paged_mqa_logits",
    "prefill_attention",
    "gemma_rmsnorm",
    "gemma_add_rmsnorm",
    "quant2d",
    "matmul",
    "awq_dequantize",
    "gptq_gemm",
    "mla_bmm_I8",
    "moe_fc",
    "moe_pre_small",
    "moe_active_expert_balance",
}
"""Adapter functions that pass arguments of their own: a test in its area's file."""

STRAIGHT = {each.adapter_name: each for each in called() if each.adapter_name not in SEPARATELY}
"""Adapter functions that pass what they are given, as the contract says."""


def call_with_names(function: Any, names: list[str]) -> None:
    """Call with each argument's name as its value."""
    parameters = inspect.signature(function).parameters
    assert set(parameters) == set(names)
    args = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    function(*args, **{name: name for name in names if name not in args})


@pytest.mark.parametrize("name", STRAIGHT)
def test_arguments(name: str, recorders: dict[str, Recorder]) -> None:
    each = STRAIGHT[name]
    positional, named = each.arguments
    call_with_names(getattr(vendor_ops, name), positional + named)
    wanted = (each.name.split(".")[1], tuple(positional), {key: key for key in named})
    assert recorders.pop(each.surface).calls == [wanted]
    assert not any(recorder.calls for recorder in recorders.values())


def test_the_contract_the_adapter_and_the_emulator_have_the_same_functions() -> None:
    rooms = [importlib.import_module(f"{vendor_ops.__name__}.{each.name}")
             for each in pkgutil.iter_modules(vendor_ops.__path__)]  # fmt: skip
    adapted = {
        name
        for room in rooms
        for name in room.__all__
        if inspect.isfunction(found := getattr(vendor_ops, name, None))
        and found.__module__ == room.__name__
    }
    assert adapted == {each.adapter_name for each in called()}
    assert adapted >= SEPARATELY
    emulated = {f"{where}.{name}" for where in SURFACES for name in SURFACES[where].__all__}
    assert {each.name for each in called()} == emulated


@pytest.mark.parametrize("name", [*STRAIGHT, "prefill_attention"])
def test_emulator_takes_arguments_the_same_way(name: str) -> None:
    """The emulator refuses what a card may refuse: by name where the contract says by position."""
    each = next(each for each in called() if each.adapter_name == name)
    positional, named = each.arguments
    signature = inspect.signature(getattr(SURFACES[each.surface], each.name.split(".")[1]))
    signature.bind(*positional, **dict.fromkeys(named))
    if positional and each.surface != "flash_attn":
        first, *rest = positional
        with pytest.raises(TypeError):
            signature.bind(*rest, **dict.fromkeys(named), **{first: first})


def test_results_come_back(recorders: dict[str, Recorder]) -> None:
    assert (
        vendor_ops.get_masked_input_and_mask(*[None] * 6) == "result of get_masked_input_and_mask"
    )
    ids = vendor_ops.top_p_sampling_from_probs(torch.ones(1, 1), top_p=torch.ones(1))
    assert ids == "result of top_p_sampling_from_probs"
