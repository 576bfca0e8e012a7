# SPDX-License-Identifier: Apache-2.0
"""The adapter passes each argument as the contract says: which library, by position or by name."""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

import pytest
import torch

from vllm_kunlun.ops import vendor
from vllm_kunlun.ops.emulator import kunlun_ops, xspeedgate_ops
from vllm_kunlun.ops.vendor import library
from vllm_kunlun.platforms import device
from vllm_kunlun.platforms.errors import VendorLibraryError


class Recorder:
    """A library that has every function and keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> str:
            self.calls.append((name, args, kwargs))
            return f"result of {name}"

        return record


CONTRACT: dict[str, tuple[str, str, str]] = {
    # adapter function: library and function, arguments by position, arguments by name
    "reshape_and_cache_flash": (
        "kunlun_ops.reshape_and_cache_flash",
        "key value key_cache value_cache slot_mapping",
        "BLHD_LAYOUT",
    ),
    "speculative_attention": (
        "kunlun_ops.speculative_attention",
        "",
        "out q k_cache v_cache context_lens_cpu context_lens_xpu batch_num qlen max_context_len "
        "head_num head_dim scale kv_head_num block_size max_num_blocks_per_seq max_window_size "
        "block_tables sink",
    ),
    "attention_merge_stage": (
        "kunlun_ops.attention_merge_stage",
        "prefix_output prefix_lse suffix_output suffix_lse output output_lse",
        "",
    ),
    "concat_and_cache_mla": (
        "kunlun_ops.concat_and_cache_mla",
        "kv_c k_pe slot_mapping kv_cache",
        "",
    ),
    "gather_and_maybe_dequant_cache": (
        "xspeedgate_ops.gather_and_maybe_dequant_cache",
        "",
        "src_cache dst block_table cu_seq_lens batch_size kv_cache_dtype scale seq_starts",
    ),
    "convert_req_index_to_global_index": (
        "xspeedgate_ops.convert_req_index_to_global_index",
        "",
        "req_id block_table token_indices block_size num_topk_tokens",
    ),
    "indexer_k_quant_and_cache": (
        "xspeedgate_ops.indexer_k_quant_and_cache",
        "k kv_cache slot_mapping quant_block_size scale_fmt",
        "",
    ),
    "cp_gather_indexer_k_quant_cache": (
        "xspeedgate_ops.cp_gather_indexer_k_quant_cache",
        "",
        "kv_cache dst_k dst_scale block_table cu_seq_lens",
    ),
    "mask_for_I8_mqa_logits": (
        "xspeedgate_ops.mask_for_I8_mqa_logits",
        "",
        "seq_len_kv cu_seqlen_ks cu_seqlen_ke logits",
    ),
    "topk_per_row": (
        "xspeedgate_ops.topk_per_row",
        "",
        "logits srcIndices numRows stride0 stride1 topK rowStarts rowEnds seqLens next_n",
    ),
    "rmsnorm": ("kunlun_ops.rmsnorm", "x weight output eps", ""),
    "add_rmsnorm": ("kunlun_ops.add_rmsnorm", "x y", "residual_output weight eps output"),
    "gemma_rmsnorm": ("kunlun_ops.gemma_rmsnorm", "x weight output eps", ""),
    "l2norm": ("kunlun_ops.l2norm", "x out eps", ""),
    "rms_norm_gated": (
        "kunlun_ops.rms_norm_gated",
        "x output z weight eps group_size norm_before_gate is_rms_norm",
        "",
    ),
    "gemma_add_rmsnorm": (
        "kunlun_ops.gemma_add_rmsnorm",
        "x y",
        "weight output eps residual_output",
    ),
    "swiglu": ("kunlun_ops.swiglu", "", "x y"),
    "gelu": ("kunlun_ops.gelu", "x out", ""),
    "quick_gelu": ("kunlun_ops.quick_gelu", "x", "out"),
    "rotary_embedding": (
        "kunlun_ops.rotary_embedding",
        "",
        "positions query key head_size cos_sin_cache is_neox",
    ),
    "split_norm_rope_neox": (
        "kunlun_ops.split_norm_rope_neox",
        "q_emb k_emb v_out qkv rotary_pos_embedding q_norm_weight k_norm_weight positions "
        "num_tokens max_seqlen head_num kv_head_num head_dim rotary_dim",
        "",
    ),
    "split_norm_rope_neox_gated": (
        "xspeedgate_ops.split_norm_rope_neox",
        "",
        "qkv q_weights k_weights positions cos_sin_cache q_size kv_size num_q_heads num_kv_heads "
        "head_dim rotary_dim attn_output_gate",
    ),
    "get_masked_input_and_mask": (
        "xspeedgate_ops.get_masked_input_and_mask",
        "input_ids org_start org_end num_org_padding added_start added_end",
        "",
    ),
    "top_p_sampling_from_probs": (
        "kunlun_ops.top_p_sampling_from_probs",
        "probs",
        "top_p deterministic",
    ),
    "top_k_sampling_from_probs": (
        "kunlun_ops.top_k_sampling_from_probs",
        "probs",
        "top_k deterministic",
    ),
    "top_k_top_p_sampling_from_probs": (
        "kunlun_ops.top_k_top_p_sampling_from_probs",
        "probs",
        "top_k top_p deterministic",
    ),
    "moe_softmax_topk": (
        "kunlun_ops.moe_softmax_topk",
        "x normed_score topk_index block_statistic",
        "",
    ),
    "moe_softmax_topk_norm": (
        "kunlun_ops.moe_softmax_topk_norm",
        "x normed_score topk_index block_statistic stable",
        "",
    ),
    "moe_sigmoid_group_topk_norm": (
        "kunlun_ops.moe_sigmoid_group_topk_norm",
        "",
        "x norm_score topk_index block_static bias n_group topk_group scale",
    ),
    "gen_block_statistic": ("kunlun_ops.gen_block_statistic", "topk_ids block_statistic", ""),
    "moe_pre_sorted": (
        "kunlun_ops.moe_pre_sorted",
        "x topk_index block_statistic moe_expand moe_index expert_m sorted_tokens_num_lod",
        "",
    ),
    "moe_post": ("kunlun_ops.moe_post", "x moe_index normed_scale dequant_scale y", ""),
    "fused_moe": (
        "xspeedgate_ops.fused_moe",
        "x w13 w2 normed_score sorted_tokens_num_lod sorted_tokens_idx experts_num_lod",
        "",
    ),
    "static_scaled_int8_quant": (
        "xspeedgate_ops.static_scaled_int8_quant",
        "out x scale azp",
        "",
    ),
    "dynamic_scaled_int8_quant": (
        "xspeedgate_ops.dynamic_scaled_int8_quant",
        "out x scale azp",
        "",
    ),
    "cutlass_scaled_mm": (
        "xspeedgate_ops.cutlass_scaled_mm",
        "out a b scale_a scale_b bias",
        "",
    ),
    "cutlass_scaled_mm_azp": (
        "xspeedgate_ops.cutlass_scaled_mm_azp",
        "out a b scale_a scale_b azp_adj azp bias",
        "",
    ),
    "awq_gemm": ("kunlun_ops.awq_gemm", "", "x w scale zeros out align_type group_size"),
}

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
    kunlun, xspeedgate = Recorder(), Recorder()
    with library.use_libraries(kunlun_ops=kunlun, xspeedgate_ops=xspeedgate):
        yield {"kunlun_ops": kunlun, "xspeedgate_ops": xspeedgate}


@pytest.mark.parametrize("name", CONTRACT)
def test_arguments(name: str, recorders: dict[str, Recorder]) -> None:
    target, positional, named = CONTRACT[name]
    call_with_names(getattr(vendor, name), positional.split() + named.split())
    where, function = target.split(".")
    wanted = (function, tuple(positional.split()), {key: key for key in named.split()})
    assert recorders.pop(where).calls == [wanted]
    assert not recorders.popitem()[1].calls


@pytest.mark.parametrize("on_cache", [False, True])
def test_prefill_arguments(on_cache: bool, recorders: dict[str, Recorder]) -> None:
    """On packed keys the arguments of the paged mode are left out, not passed as None."""
    names = PREFILL.split() + (PREFILL_ON_CACHE.split() if on_cache else [])
    passed: dict[str, Any] = {name: name for name in names}
    if on_cache:
        passed["is_prefix_cache"] = True
    vendor.prefill_attention(**passed)
    assert recorders["kunlun_ops"].calls == [("prefill_attention", (), passed)]


def test_experts_product_arguments(recorders: dict[str, Recorder]) -> None:
    """What no caller has ever set is passed as the constants of the contract."""
    names = [
        "x", "weight", "sorted_tokens_num_lod", "sorted_tokens_idx", "moe_topk", "y", "act",
        "x_perchannel_max", "w_perchannel_max",
    ]  # fmt: skip
    vendor.moe_fc(**{name: name for name in names})
    constants = {
        **dict.fromkeys(["topk_ids", "topk_w", "bias", "tgemm_type", "tweight_type"]),
        "scale_n": 0,
        "scale_k": 0,
        "use_pack_int4": False,
        "sort_mode": True,
    }
    wanted = {**{name: name for name in names}, **constants}
    assert recorders["kunlun_ops"].calls == [("moe_fc", (), wanted)]


def test_small_sorter_and_hint_arguments(recorders: dict[str, Recorder]) -> None:
    vendor.moe_pre_small("topk_ids", 8, x="x")
    vendor.moe_active_expert_balance("topk_ids", 8)
    assert recorders["xspeedgate_ops"].calls == [
        ("moe_pre_small", ("topk_ids", 8, False, True), {"x": "x"}),
        ("moe_active_expert_balance", ("topk_ids", 8, False), {}),
    ]


def test_quantisation_arguments(recorders: dict[str, Recorder]) -> None:
    """Arguments that the adapter sets itself are the contract's constants."""
    vendor.quant2d("x", "y", "max")
    names = ("x", "w", "out", "w_trans", "bias", "x_pc_max", "w_pc_max")
    vendor.matmul(**{name: name for name in names})
    dequantised = ("qweight", "scales", "zeros", "weight", "group_m", "align_type")
    vendor.awq_dequantize(**{name: name for name in dequantised})
    vendor.gptq_gemm("x", "qweight", "qzeros", "scales", "g_idx", 4)
    constants = {"x_trans": False, "alpha": 1.0, "beta": 0.0, "x_max": None, "w_max": None}
    assert recorders["kunlun_ops"].calls == [
        ("quant2d", (), {"x": "x", "y": "y", "max": "max", "force_sdnn": False}),
        ("matmul", (), {**{name: name for name in names}, **constants}),
        ("awq_dequantize", (), {**{name: name for name in dequantised}, "quant_type": 0}),
    ]
    assert recorders["xspeedgate_ops"].calls == [
        ("gptq_gemm", ("x", "qweight", "qzeros", "scales", "g_idx", True, 4), {})
    ]


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
    vendor.I8_mqa_logits(**{name: name for name in packed})
    vendor.I8_paged_mqa_logits(**{name: name for name in paged})
    both = {"clean_logits": True, "use_xfa_boost": False}
    constants = {"max_seq_q": 0, "max_seq_k": 0, "is_causal": False, **both}
    assert recorders["kunlun_ops"].calls == [
        ("I8_mqa_logits", (), {**{name: name for name in packed}, **constants}),
        ("I8_paged_mqa_logits", (), {**{name: name for name in paged}, **both}),
    ]


def test_latent_attention_arguments(recorders: dict[str, Recorder]) -> None:
    """Constants are the contract's; the query's LOD stands for the keys' where indices choose."""
    dense = ["out", "q", "k_cache", "table", "cpu", "xpu", "rank", "rope", "scale"]
    vendor.paged_attention(*dense)
    prefill = ["q", "kv", "indices", "out", "max_logits", "lse", "sm_scale", "qlod_cpu",
               "qlod_xpu", "d_v"]  # fmt: skip
    vendor.sparse_prefill_fwd_opt(**{name: name for name in prefill})
    decode = ["q_c", "kv_cache", "indices", "kv_lod_cpu", "kv_lod_xpu", "out", "max_logits",
              "p_sums", "softmax_scale", "max_seq_kv"]  # fmt: skip
    vendor.fwd_kvcache_mla(**{name: name for name in decode})
    lods = {"kvlod_cpu": "qlod_cpu", "kvlod_xpu": "qlod_xpu"}
    flags = {"is_causal": True, "use_xfa_boost": False}
    absent = {"q_r": None, "pe_cache": None, "use_xfa_boost": False}
    positional = (*dense[:3], None, *dense[3:6], False, True, -1, *dense[6:])
    assert recorders["kunlun_ops"].calls == [
        ("paged_attention", positional, {"q_r": "q"}),
        ("sparse_prefill_fwd_opt", (), {**{name: name for name in prefill}, **lods, **flags}),
        ("fwd_kvcache_mla", (), {**{name: name for name in decode}, **absent}),
    ]


SEPARATELY = {
    "fwd_kvcache_mla": "kunlun_ops",
    "paged_attention": "kunlun_ops",
    "sparse_prefill_fwd_opt": "kunlun_ops",
    "I8_mqa_logits": "kunlun_ops",
    "I8_paged_mqa_logits": "kunlun_ops",
    "prefill_attention": "kunlun_ops",
    "quant2d": "kunlun_ops",
    "matmul": "kunlun_ops",
    "awq_dequantize": "kunlun_ops",
    "gptq_gemm": "xspeedgate_ops",
    "moe_fc": "kunlun_ops",
    "moe_pre_small": "xspeedgate_ops",
    "moe_active_expert_balance": "xspeedgate_ops",
}


def test_every_adapter_function_is_in_the_tables() -> None:
    assert set(vendor.__all__) == {*CONTRACT, *SEPARATELY}
    adapted = {target for target, _, _ in CONTRACT.values()}
    adapted |= {f"{library}.{name}" for name, library in SEPARATELY.items()}
    emulated = {f"kunlun_ops.{name}" for name in kunlun_ops.__all__}
    emulated |= {f"xspeedgate_ops.{name}" for name in xspeedgate_ops.__all__}
    assert adapted == emulated


@pytest.mark.parametrize("name", [*CONTRACT, "prefill_attention"])
def test_emulator_takes_arguments_the_same_way(name: str) -> None:
    """The emulator refuses what a card may refuse: by name where the contract says by position."""
    default = ("kunlun_ops.prefill_attention", "", f"{PREFILL} {PREFILL_ON_CACHE}")
    target, positional, named = CONTRACT.get(name, default)
    where, function = target.split(".")
    surface = {"kunlun_ops": kunlun_ops, "xspeedgate_ops": xspeedgate_ops}[where]
    signature = inspect.signature(getattr(surface, function))
    signature.bind(*positional.split(), **dict.fromkeys(named.split()))
    if positional:
        first, *rest = positional.split()
        with pytest.raises(TypeError):
            signature.bind(*rest, **dict.fromkeys(named.split()), **{first: first})


def test_results_come_back(recorders: dict[str, Recorder]) -> None:
    assert vendor.get_masked_input_and_mask(*[None] * 6) == "result of get_masked_input_and_mask"
    ids = vendor.top_p_sampling_from_probs(torch.ones(1, 1), top_p=torch.ones(1))
    assert ids == "result of top_p_sampling_from_probs"


def test_missing_function_is_named_at_first_use() -> None:
    old_wheel = types.SimpleNamespace(rmsnorm=lambda *args: None)
    with library.use_libraries(kunlun_ops=old_wheel):
        vendor.rmsnorm(None, None, None, 1e-6)
        with pytest.raises(VendorLibraryError) as raised:
            vendor.swiglu(x=torch.ones(1, 2), y=torch.ones(1, 1))
        for part in ("kunlun_ops", "'swiglu'", "version", "vllm-kunlun doctor"):
            assert part in str(raised.value)
        missing = library.missing_symbols()
    assert "swiglu" in missing["kunlun_ops"]
    assert "rmsnorm" not in missing["kunlun_ops"]
    assert missing["xspeedgate_ops"] == []


def test_without_a_card_the_emulator_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setattr(device, "detect", lambda: device.Device("emulated", "for the test"))
    assert library.libraries() == (kunlun_ops, xspeedgate_ops)
    assert library.missing_symbols() == {"kunlun_ops": [], "xspeedgate_ops": []}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setattr(device, "detect", lambda: device.Device("xpu", "for the test"))
    return monkeypatch


def test_on_a_card_the_wheels_answer(card: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    modules = {name: types.ModuleType(name) for name in ("cocopod", "kunlun_ops", "xspeedgate_ops")}

    def import_module(name: str) -> types.ModuleType:
        imported.append(name)
        return modules[name]

    card.setattr(library.importlib, "import_module", import_module)
    kunlun, xspeedgate = library.libraries()
    assert imported == ["cocopod", "kunlun_ops", "xspeedgate_ops"]
    assert kunlun is modules["kunlun_ops"]
    assert xspeedgate is torch.ops.xspeedgate_ops
    library.libraries()
    assert len(imported) == 3  # chosen once


def test_wheels_answer_without_a_card_if_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: types.ModuleType(name) for name in ("cocopod", "kunlun_ops", "xspeedgate_ops")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(library, "_libraries", None)
    monkeypatch.setenv("VLLM_KUNLUN_DEVICE", "emulated")
    monkeypatch.setenv("VLLM_KUNLUN_VENDOR", "wheels")
    assert library.libraries() == (modules["kunlun_ops"], torch.ops.xspeedgate_ops)
    assert device.detect().kind == "emulated"


def test_a_broken_wheel_is_named(card: pytest.MonkeyPatch) -> None:
    card.setitem(sys.modules, "cocopod", types.ModuleType("cocopod"))
    card.setitem(sys.modules, "kunlun_ops", None)
    with pytest.raises(VendorLibraryError, match="kunlun_ops cannot be imported"):
        library.libraries()


def test_use_libraries_restores(recorders: dict[str, Recorder]) -> None:
    inner = Recorder()
    with pytest.raises(KeyError), library.use_libraries(kunlun_ops=inner):
        vendor.rmsnorm(1, 2, 3, 4)
        raise KeyError
    vendor.rmsnorm(5, 6, 7, 8)
    assert inner.calls == [("rmsnorm", (1, 2, 3, 4), {})]
    assert recorders["kunlun_ops"].calls == [("rmsnorm", (5, 6, 7, 8), {})]
