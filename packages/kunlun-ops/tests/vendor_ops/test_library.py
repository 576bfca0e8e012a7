# SPDX-License-Identifier: Apache-2.0
"""The adapter passes each argument as the contract says: which library, by position or by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import types
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator import flash_attn, kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops import vendor_ops
from vllm_kunlun.ops.contract import findings
from vllm_kunlun.ops.contract.functions import contract
from vllm_kunlun.ops.vendor_ops import library
from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import VendorLibraryError

SURFACES = {"flash_attn": flash_attn, "kunlun_ops": kunlun_ops, "xspeedgate_ops": xspeedgate_ops}


class Recorder:
    """A library that has every function and keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> str:
            self.calls.append((name, args, kwargs))
            return f"result of {name}"

        return record


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
"""Adapter functions that pass arguments of their own: a test below for each."""

STRAIGHT = {
    each.adapter_name: each
    for each in contract()
    if each.call is not None and each.adapter_name not in SEPARATELY
}
"""Adapter functions that pass what they are given, as the contract says."""

PREFILL = (
    "q k v out is_causal alpha context_qlen_lod_cpu context_qlen_lod_xpu alibi_slopes softmax_lse "
    "swa_left swa_right sink"
)
PREFILL_ON_CACHE = "is_prefix_cache block_table context_kvlen_lod_cpu context_kvlen_lod_xpu"


def call_with_names(function: Any, names: list[str]) -> None:
    """Call with each argument's name as its value."""
    parameters = inspect.signature(function).parameters
    assert set(parameters) == set(names)
    args = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    function(*args, **{name: name for name in names if name not in args})


@pytest.fixture
def recorders() -> Any:
    recorders = {name: Recorder() for name in library.Libraries._fields}
    with library.use_libraries(**recorders):
        yield recorders


@pytest.mark.parametrize("name", STRAIGHT)
def test_arguments(name: str, recorders: dict[str, Recorder]) -> None:
    each = STRAIGHT[name]
    positional, named = each.arguments
    call_with_names(getattr(vendor_ops, name), positional + named)
    wanted = (each.name.split(".")[1], tuple(positional), {key: key for key in named})
    assert recorders.pop(each.surface).calls == [wanted]
    assert not any(recorder.calls for recorder in recorders.values())


@pytest.mark.parametrize("on_cache", [False, True])
def test_prefill_arguments(on_cache: bool, recorders: dict[str, Recorder]) -> None:
    """On packed keys the arguments of the paged mode are left out, not passed as None."""
    names = PREFILL.split() + (PREFILL_ON_CACHE.split() if on_cache else [])
    passed: dict[str, Any] = {name: name for name in names}
    if on_cache:
        passed["is_prefix_cache"] = True
    vendor_ops.prefill_attention(**passed)
    assert recorders["kunlun_ops"].calls == [("prefill_attention", (), passed)]


def products(*names: str) -> dict[str, Any]:
    """What no caller has ever set is passed as the constants of the contract."""
    everything = [
        "x", "weight", "sorted_tokens_num_lod", "sorted_tokens_idx", "moe_topk", "y", "act",
        "x_perchannel_max", "w_perchannel_max", "topk_ids",
    ]  # fmt: skip
    return {
        **{name: name if name in names or name in everything[:6] else None for name in everything},
        **dict.fromkeys(["topk_w", "bias", "tgemm_type", "tweight_type"]),
        "scale_n": 0,
        "scale_k": 0,
        "use_pack_int4": False,
        "sort_mode": True,
    }


INT8_PRODUCT = ("x_perchannel_max", "w_perchannel_max")


@pytest.mark.parametrize(
    ("given", "passed"),
    [((), ()), (("act",), ("act",)), (("topk_ids",), ()),
     ((*INT8_PRODUCT, "topk_ids"), (*INT8_PRODUCT, "topk_ids"))],
    ids=str,
)  # fmt: skip
def test_experts_product_arguments(
    given: tuple[str, ...], passed: tuple[str, ...], recorders: dict[str, Recorder]
) -> None:
    """The choices go to the int8 product alone."""
    always = list(products())[:6]
    vendor_ops.moe_fc(**{name: name for name in (*always, *given)})
    assert recorders["kunlun_ops"].calls == [("moe_fc", (), products(*passed))]


def test_a_card_may_take_the_int8_product_without_the_choices(
    recorders: dict[str, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_kunlun.ops.vendor_ops.moe.chosen", lambda name: "without")
    always = list(products())[:6]
    vendor_ops.moe_fc(**{name: name for name in (*always, *INT8_PRODUCT, "topk_ids")})
    assert recorders["kunlun_ops"].calls == [("moe_fc", (), products(*INT8_PRODUCT))]


def test_either_name_of_the_routing_statistic_is_served() -> None:
    """Builds differ in it: by position the call is right either way."""
    seen = []

    def in_one_build(x, topk_index, norm_score, block_static, bias, scale, n_group, topk_group):
        seen.append((topk_index, norm_score, block_static, scale, n_group, topk_group))

    def in_another(x, topk_index, norm_score, block_statistic, bias, scale, n_group, topk_group):
        seen.append((topk_index, norm_score, block_statistic, scale, n_group, topk_group))

    for build in (in_one_build, in_another):
        wheel = types.SimpleNamespace(moe_sigmoid_group_topk_norm=build)
        with library.use_libraries(kunlun_ops=wheel):
            vendor_ops.moe_sigmoid_group_topk_norm(
                "x", "ids", "weights", "counts", "bias", 2.5, 8, 4
            )
    assert seen == [("ids", "weights", "counts", 2.5, 8, 4)] * 2


def test_small_sorter_and_hint_arguments(recorders: dict[str, Recorder]) -> None:
    vendor_ops.moe_pre_small("topk_ids", 8, False, True, "x")
    vendor_ops.moe_active_expert_balance("topk_ids", 8)
    assert recorders["xspeedgate_ops"].calls == [
        ("moe_pre_small", ("topk_ids", 8, False, True), {"x": "x"}),
        ("moe_active_expert_balance", ("topk_ids", 8, False), {}),
    ]


def test_quantisation_arguments(recorders: dict[str, Recorder]) -> None:
    """Arguments that the adapter sets itself are the contract's constants."""
    vendor_ops.quant2d("x", "y", "max")
    names = ("x", "w", "out", "w_trans", "bias", "x_pc_max", "w_pc_max")
    vendor_ops.matmul(**{name: name for name in names})
    dequantised = ("qweight", "scales", "zeros", "weight", "group_m", "align_type")
    vendor_ops.awq_dequantize(**{name: name for name in dequantised})
    vendor_ops.gptq_gemm("x", "qweight", "qzeros", "scales", "g_idx", 4)
    constants = {"x_trans": False, "alpha": 1.0, "beta": 0.0, "x_max": None, "w_max": None}
    assert recorders["kunlun_ops"].calls == [
        ("quant2d", (), {"x": "x", "y": "y", "max": "max", "force_sdnn": True}),
        ("matmul", (), {**{name: name for name in names}, **constants}),
        ("awq_dequantize", (), {**{name: name for name in dequantised}, "quant_type": 0}),
    ]
    assert recorders["xspeedgate_ops"].calls == [
        ("gptq_gemm", ("x", "qweight", "qzeros", "scales", "g_idx", True, 4), {})
    ]


def test_gemma_norm_arguments(recorders: dict[str, Recorder]) -> None:
    """Every known caller passes all arguments, and none of them sets one."""
    vendor_ops.gemma_rmsnorm("x", "weight", "output", 1e-6)
    names = ("weight", "output", "eps", "residual_output")
    vendor_ops.gemma_add_rmsnorm("x", "y", **{name: name for name in names})
    constants = {
        **dict.fromkeys(["enable_pdl", "interweaved", "force_sdnn"], False),
        "store_output_before_norm": True,
        "bias": None,
        "smooth": None,
    }
    assert recorders["kunlun_ops"].calls == [
        ("gemma_rmsnorm", ("x", "weight", "output", 1e-6, False, False, None, False), {}),
        ("gemma_add_rmsnorm", ("x", "y"), {**{name: name for name in names}, **constants}),
    ]


def test_rotary_arguments(recorders: dict[str, Recorder]) -> None:
    """Offsets have never been set by a caller: passed as None."""
    names = ["positions", "rotary_dim", "head_size", "cos_sin_cache", "is_neox_style", "query",
             "key"]  # fmt: skip
    vendor_ops.flashinfer_rotary_embedding(**{name: name for name in names})
    wanted = {**{name: name for name in names}, "offsets": None}
    assert recorders["xspeedgate_ops"].calls == [("flashinfer_rotary_embedding", (), wanted)]


def test_indexer_arguments(recorders: dict[str, Recorder]) -> None:
    """What no caller has ever set is passed as the constants of the contract."""
    packed = ["q", "fused_kv_cache", "weights", "context_q_lens", "context_k_lens", "logits"]
    paged = [
        "q",
        "fused_kv_cache",
        "weights",
        "context_lens",
        "block_table",
        "max_context_len",
        "out",
    ]
    vendor_ops.I8_mqa_logits(**{name: name for name in packed})
    vendor_ops.I8_paged_mqa_logits(**{name: name for name in paged})
    both = {"clean_logits": True, "use_xfa_boost": False}
    constants = {"max_seq_q": 0, "max_seq_k": 0, "is_causal": False, **both}
    assert recorders["kunlun_ops"].calls == [
        ("I8_mqa_logits", (), {**{name: name for name in packed}, **constants}),
        ("I8_paged_mqa_logits", (), {**{name: name for name in paged}, **both}),
    ]


def test_latent_attention_arguments(recorders: dict[str, Recorder]) -> None:
    """Constants are the contract's; the query's LOD stands for the keys' where indices choose."""
    dense = ["out", "q", "k_cache", "table", "cpu", "xpu", "rank", "rope", "scale"]
    vendor_ops.paged_attention(*dense)
    prefill = ["q", "kv", "indices", "out", "max_logits", "lse", "sm_scale", "qlod_cpu",
               "qlod_xpu", "d_v"]  # fmt: skip
    vendor_ops.sparse_prefill_fwd_opt(**{name: name for name in prefill})
    decode = ["q_c", "kv_cache", "indices", "kv_lod_cpu", "kv_lod_xpu", "out", "max_logits",
              "p_sums", "softmax_scale", "max_seq_kv"]  # fmt: skip
    vendor_ops.fwd_kvcache_mla(**{name: name for name in decode})
    lods = {"kvlod_cpu": "qlod_cpu", "kvlod_xpu": "qlod_xpu"}
    flags = {"is_causal": True, "use_xfa_boost": False}
    absent = {"q_r": None, "pe_cache": None, "use_xfa_boost": False}
    positional = (*dense[:3], None, *dense[3:6], False, True, -1, *dense[6:])
    assert recorders["kunlun_ops"].calls == [
        ("paged_attention", positional, {"q_r": "q"}),
        ("sparse_prefill_fwd_opt", (), {**{name: name for name in prefill}, **lods, **flags}),
        ("fwd_kvcache_mla", (), {**{name: name for name in decode}, **absent}),
    ]


def test_latent_prefill_arguments(recorders: dict[str, Recorder]) -> None:
    names = ["q", "k_cache", "v_cache", "out", "is_causal", "context_seq_lod_cpu",
             "context_seq_lod_xpu", "alpha", "softmax_lse"]  # fmt: skip
    keys = ["context_kvlen_lod_cpu", "context_kvlen_lod_xpu"]
    vendor_ops.attention(**{name: name for name in names})
    vendor_ops.attention(**{name: name for name in names + keys})
    product = ["x", "weight_i8", "weight_max", "out", "lod", "idx"]
    vendor_ops.mla_bmm_I8(*product)
    absent = ["k_perchannel_scale", "v_perchannel_scale", "smooth", "slot_mapping_cpu",
              "slot_mapping_xpu"]  # fmt: skip
    constants = {"is_prefill": True, "prefill_len": 0, "v_trans": False, "v_trans_threshold": 0,
                 "unpadded_lse": True, **dict.fromkeys(absent)}  # fmt: skip
    assert recorders["kunlun_ops"].calls == [
        ("attention", (), {name: name for name in names} | constants),
        ("attention", (), {name: name for name in names + keys} | constants),
        ("mla_bmm_I8", tuple(product), {"trans": False}),
    ]


def test_a_merge_that_wants_the_heads_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other form of the card finding: transposed on the way in and out."""
    call = [torch.randn(5, 3, 8), torch.randn(5, 3), torch.randn(5, 3, 8), torch.randn(5, 3)]
    first, second = ([torch.empty(5, 3, 8), torch.empty(5, 3)] for _ in range(2))
    vendor_ops.attention_merge_stage(*call, *first)

    def heads_first(*args: torch.Tensor) -> None:
        lses = [args[index].T.contiguous() for index in (1, 3, 5)]
        kunlun_ops.attention_merge_stage(args[0], lses[0], args[2], lses[1], args[4], lses[2])
        args[5].copy_(lses[2].T)

    monkeypatch.setattr(findings, "chosen", {"merge-lse": "heads-first"}.get)
    with library.use_libraries(kunlun_ops=types.SimpleNamespace(attention_merge_stage=heads_first)):
        vendor_ops.attention_merge_stage(*call, *second)
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("scale", [None, 0.2])
def test_packed_encoder_arguments(scale: float | None, recorders: dict[str, Recorder]) -> None:
    """No call of the contract passes a scale: it is left out where it is the default."""
    names = ["cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"]
    vendor_ops.flash_attn_varlen_func(
        "q", "k", "v", **{name: name for name in names}, softmax_scale=scale
    )
    wanted = {name: name for name in names} | {"dropout_p": 0.0, "causal": False}
    if scale is not None:
        wanted["softmax_scale"] = scale
    assert recorders["flash_attn"].calls == [("flash_attn_varlen_func", ("q", "k", "v"), wanted)]


def test_convolution_arguments(recorders: dict[str, Recorder]) -> None:
    """Sizes and the stride between states come from the tensors."""
    x, weight, states = torch.empty(7, 6), torch.empty(6, 4), torch.empty(5, 40)
    states = states[:, :18].unflatten(1, (3, 6))
    starts, indices = torch.tensor([0, 3, 7]), torch.tensor([2, 4])
    names = ("has_initial_state_cpu", "has_initial_state_xpu")
    cached = {"cache_indices_cpu": indices, "cache_indices_xpu": "indices"}
    vendor_ops.causal_conv1d_fn(x, "out", weight, "bias", states, "cpu", starts, **cached,
                            **dict(zip(names, names, strict=True)))  # fmt: skip
    chosen = {"conv_state_indices_cpu": "cpu", "conv_state_indices_xpu": "xpu"}
    vendor_ops.causal_conv1d_update("x", weight, "out", states, "bias", **chosen)
    both = {"act": "SWISH", "state_seq_stride": 40}
    positional = (x, "out", 6, 7, weight, 4, states, 5, 3, "cpu", starts, 2, "bias")
    named = {**cached, **dict(zip(names, names, strict=True)), **both}
    assert recorders["kunlun_ops"].calls == [
        ("causal_conv1d_fn", positional, named),
        ("causal_conv1d_update", ("x", weight, "out", states, None, "bias"),
         {**chosen, **both, "is_ncw": False}),
    ]  # fmt: skip


def test_delta_rule_arguments(recorders: dict[str, Recorder]) -> None:
    """States are transposed and written in place; chunks are of 64 tokens."""
    packed = ["q", "k", "v", "g", "beta", "scale", "initial_state"]
    named = ["cu_seqlens", "h0_indices", "num_accepted_tokens", "use_qk_l2norm_in_kernel"]
    vendor_ops.fused_recurrent_gated_delta_rule_fwdv2(*packed, **{name: name for name in named})
    constants = {"inplace_final_state": True, "is_h0_transposed": True}
    assert recorders["kunlun_ops"].calls == [
        ("fused_recurrent_gated_delta_rule_fwdv2", tuple(packed),
         {**{name: name for name in named}, **constants})
    ]  # fmt: skip
    chunks = ("cu_seqlens", "chunk_indices")
    by_name = {name: name for name in chunks}
    vendor_ops.chunk_local_cumsum("g", **by_name)
    vendor_ops.chunk_scaled_dot_kkt_fwd("k", "beta", "g", *chunks)
    vendor_ops.solve_tril_ns("A", *chunks)
    w_u = {name: name for name in ("k", "v", "beta", "A", "g_cumsum", *chunks)}
    vendor_ops.recompute_w_u_fwd(**w_u)
    states = ("k", "u", "w", "g", "initial_state", *chunks, "chunk_offsets")
    vendor_ops.chunk_gated_delta_rule_fwd_h(*states)
    output = {name: name for name in ("q", "k", "v", "h", "g", "scale", *chunks)}
    vendor_ops.chunk_fwd_o(**output)
    assert recorders["xspeedgate_ops"].calls == [
        ("chunk_local_cumsum", ("g",),
         {"chunk_size": 64, "reverse": False, "head_first": False, **by_name}),
        ("chunk_scaled_dot_kkt_fwd", ("k", "beta", "g", *chunks, 64), {}),
        ("solve_tril_ns", ("A", *chunks, 64), {}),
        ("recompute_w_u_fwd", (), {**w_u, "chunk_size": 64}),
        ("chunk_gated_delta_rule_fwd_h", (*states, 64, True, True), {}),
        ("chunk_fwd_o", (), {**output, "chunk_size": 64}),
    ]  # fmt: skip


def test_the_contract_the_adapter_and_the_emulator_have_the_same_functions() -> None:
    called = [each for each in contract() if each.call is not None]
    rooms = [importlib.import_module(f"{vendor_ops.__name__}.{each.name}")
             for each in pkgutil.iter_modules(vendor_ops.__path__)]  # fmt: skip
    adapted = {
        name
        for room in rooms
        for name in room.__all__
        if inspect.isfunction(found := getattr(vendor_ops, name, None))
        and found.__module__ == room.__name__
    }
    assert adapted == {each.adapter_name for each in called}
    assert adapted >= SEPARATELY
    emulated = {f"{where}.{name}" for where in SURFACES for name in SURFACES[where].__all__}
    assert {each.name for each in called} == emulated


@pytest.mark.parametrize("name", [*STRAIGHT, "prefill_attention"])
def test_emulator_takes_arguments_the_same_way(name: str) -> None:
    """The emulator refuses what a card may refuse: by name where the contract says by position."""
    each = next(each for each in contract() if each.adapter_name == name)
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


def test_missing_function_is_named_at_first_use() -> None:
    old_wheel = types.SimpleNamespace(rmsnorm=lambda *args: None)
    with library.use_libraries(kunlun_ops=old_wheel):
        vendor_ops.rmsnorm(None, None, None, 1e-6)
        with pytest.raises(VendorLibraryError) as raised:
            vendor_ops.swiglu(x=torch.ones(1, 2), y=torch.ones(1, 1))
        for part in ("kunlun_ops", "'swiglu'", "version", "vllm-kunlun doctor"):
            assert part in str(raised.value)
        missing = library.missing_symbols()
    assert "swiglu" in missing["kunlun_ops"]
    assert "rmsnorm" not in missing["kunlun_ops"]
    assert missing["xspeedgate_ops"] == []


def test_without_a_card_the_emulator_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setattr(device, "detect", lambda: device.Device("emulated", "for the test"))
    assert library.libraries()._asdict() == SURFACES
    assert library.missing_symbols() == {name: [] for name in SURFACES}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setattr(device, "detect", lambda: device.Device("xpu", "for the test"))
    return monkeypatch


def test_on_a_card_the_wheels_answer(card: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    names = ["cocopod", "kunlun_ops", "xspeedgate_ops", "flash_attn"]
    modules = {name: types.ModuleType(name) for name in names}

    original = importlib.import_module

    def import_module(name: str) -> types.ModuleType:
        if name not in modules:  # Python 3.10's importlib.resources asks, too
            return original(name)
        imported.append(name)
        return modules[name]

    card.setattr(library.importlib, "import_module", import_module)
    found = library.libraries()
    assert imported == names
    assert found.kunlun_ops is modules["kunlun_ops"]
    assert found.xspeedgate_ops is torch.ops.xspeedgate_ops
    assert found.flash_attn is modules["flash_attn"]
    library.libraries()
    assert len(imported) == len(names)  # chosen once


def test_a_card_may_lack_flash_attn(card: pytest.MonkeyPatch) -> None:
    for name in ("cocopod", "kunlun_ops", "xspeedgate_ops"):
        card.setitem(sys.modules, name, types.ModuleType(name))
    card.setitem(sys.modules, "flash_attn", None)
    assert library.libraries().flash_attn is None
    assert not library.has("flash_attn", "flash_attn_func")
    assert library.missing_symbols()["flash_attn"] == flash_attn.__all__
    with pytest.raises(VendorLibraryError, match=r"flash_attn .*'flash_attn_func'.*doctor"):
        vendor_ops.flash_attn_func(*torch.empty(3, 1, 1, 1, 1))


def test_a_flash_attn_that_fails_to_load_counts_as_absent(card: pytest.MonkeyPatch) -> None:
    """A build for other cards: its shared library is not there, which is an OSError."""
    for name in ("cocopod", "kunlun_ops", "xspeedgate_ops"):
        card.setitem(sys.modules, name, types.ModuleType(name))
    original = importlib.import_module

    def import_module(name: str) -> types.ModuleType:
        if name == "flash_attn":
            raise OSError("libcudart.so.12: cannot open shared object file")
        return original(name)

    card.setattr(library.importlib, "import_module", import_module)
    assert library.libraries().flash_attn is None
    assert not library.has("flash_attn", "flash_attn_varlen_func")


def test_wheels_answer_without_a_card_if_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: types.ModuleType(name) for name in ("cocopod", "kunlun_ops", "xspeedgate_ops")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", "emulated")
    monkeypatch.setenv("VLLM_KUNLUN_VENDOR", "wheels")
    assert library.libraries()[:2] == (modules["kunlun_ops"], torch.ops.xspeedgate_ops)
    assert device.detect().kind == "emulated"


def test_a_broken_wheel_is_named(card: pytest.MonkeyPatch) -> None:
    card.setitem(sys.modules, "cocopod", types.ModuleType("cocopod"))
    card.setitem(sys.modules, "kunlun_ops", None)
    with pytest.raises(VendorLibraryError, match="kunlun_ops cannot be imported"):
        library.libraries()


def test_use_libraries_restores(recorders: dict[str, Recorder]) -> None:
    inner = Recorder()
    with pytest.raises(KeyError), library.use_libraries(kunlun_ops=inner):
        vendor_ops.rmsnorm(1, 2, 3, 4)
        raise KeyError
    vendor_ops.rmsnorm(5, 6, 7, 8)
    assert inner.calls == [("rmsnorm", (1, 2, 3, 4), {})]
    assert recorders["kunlun_ops"].calls == [("rmsnorm", (5, 6, 7, 8), {})]
