# SPDX-License-Identifier: Apache-2.0
"""The contract's signatures and the check of recorded calls: right calls pass, each plant fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import fake_vendor, vendor_calls
from support.vendor_calls import describe_call
from support.vendor_contract import CONTRACT, check

from vllm_kunlun.ops.contract.functions import called


def ints(*values: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def words_of(call: dict[str, Any]) -> list[str]:
    return [str(violation) for violation in check([call], CONTRACT)]


def words(function: str, *args: Any, **kwargs: Any) -> list[str]:
    return words_of(json.loads(json.dumps(describe_call(function, args, kwargs))))


# One right call per way of passing; each plant below changes one thing in one of them.


def rmsnorm() -> list[Any]:
    return [torch.ones(3, 8), torch.ones(8), torch.empty(3, 8), 1e-6]


def paged_write() -> tuple[list[Any], dict[str, Any]]:
    key, cache = torch.ones(3, 2, 32), torch.zeros(2, 5, 2, 16, 32)
    return [key, key.clone(), *cache, ints(0, 1, 2, dtype=torch.int64)], {"BLHD_LAYOUT": False}


def decode(requests: int = 3, rows: int = 1) -> dict[str, Any]:
    lengths = torch.arange(1, requests + 1, dtype=torch.int32)
    shape = (requests, rows, 4, 32)
    return {
        "out": torch.empty(shape if rows > 1 else (requests, 4, 32)),
        "q": torch.ones(shape if rows > 1 else (1, requests, 4, 32)),
        "k_cache": torch.zeros(5, 2, 16, 32),
        "v_cache": torch.zeros(5, 2, 16, 32),
        "context_lens_cpu": lengths,
        "context_lens_xpu": lengths.clone(),
        "batch_num": requests,
        "qlen": rows,
        "max_context_len": 32,
        "head_num": 4,
        "head_dim": 32,
        "scale": 0.2,
        "kv_head_num": 2,
        "block_size": 16,
        "max_num_blocks_per_seq": 2,
        "max_window_size": -1,
        "block_tables": torch.zeros(requests, 2, dtype=torch.int32),
        "sink": None,
    }


def prefill(**changes: Any) -> dict[str, Any]:
    lod = ints(0, 2, 5)
    return {
        "q": torch.ones(5, 4, 32),
        "k": torch.ones(5, 2, 32),
        "v": torch.ones(5, 2, 32),
        "out": torch.empty(5, 4, 32),
        "is_causal": True,
        "alpha": 1.0,
        "context_qlen_lod_cpu": lod,
        "context_qlen_lod_xpu": lod.clone(),
        "alibi_slopes": None,
        "softmax_lse": None,
        "swa_left": -1,
        "swa_right": -1,
        "sink": None,
        **changes,
    }


def latent_decode() -> tuple[list[Any], dict[str, Any]]:
    q, lengths = torch.ones(2, 1, 4, 40), ints(3, 4)
    out, cache = torch.empty(2, 1, 4, 32), torch.zeros(5, 1, 16, 40)
    table = torch.zeros(2, 2, dtype=torch.int32)
    counted = [table, lengths, lengths.clone(), False, True, -1, 32, 8, 0.1]
    return [out, q, cache, None, *counted], {"q_r": q}


def sparse_decode() -> dict[str, Any]:
    half, rows = torch.bfloat16, (2, 2, 4)
    return {
        "q_c": torch.ones(*rows, 40, dtype=half),
        "kv_cache": torch.zeros(64, 40, dtype=half),
        "indices": torch.zeros(2, 2, 8, dtype=torch.int32),
        "kv_lod_cpu": ints(3, 4),
        "kv_lod_xpu": ints(3, 4),
        "out": torch.empty(*rows, 32, dtype=half),
        "max_logits": torch.empty(*rows),
        "p_sums": torch.empty(*rows),
        "softmax_scale": 0.1,
        "max_seq_kv": 4,
        "q_r": None,
        "pe_cache": None,
        "use_xfa_boost": False,
    }


def indexer_logits() -> dict[str, Any]:
    host = ints(0, 3), ints(0, 6)
    return {
        "q": torch.zeros(3, 4, 32, dtype=torch.int8),
        "fused_kv_cache": (torch.zeros(6, 32, dtype=torch.int8), torch.ones(6, 1)),
        "weights": torch.ones(3, 4),
        "context_q_lens": (host[0], host[0].clone()),
        "context_k_lens": (host[1], host[1].clone()),
        "logits": torch.empty(3, 6),
        "clean_logits": True,
        "max_seq_q": 0,
        "max_seq_k": 0,
        "is_causal": False,
        "use_xfa_boost": False,
    }


def test_right_calls_pass() -> None:
    assert words("kunlun_ops.rmsnorm", *rmsnorm()) == []
    args, kwargs = paged_write()
    assert words("kunlun_ops.reshape_and_cache_flash", *args, **kwargs) == []
    for requests, rows in [(3, 1), (1, 1), (3, 2), (1, 2)]:
        assert words("kunlun_ops.speculative_attention", **decode(requests, rows)) == []
    assert words("kunlun_ops.prefill_attention", **prefill()) == []
    args, kwargs = latent_decode()
    assert words("kunlun_ops.paged_attention", *args, **kwargs) == []
    assert words("kunlun_ops.fwd_kvcache_mla", **sparse_decode()) == []
    assert words("kunlun_ops.I8_mqa_logits", **indexer_logits()) == []


def test_prefill_on_the_cache_passes_with_pages_that_alternate() -> None:
    cache = torch.zeros(5, 2, 2, 16, 32)
    lod = ints(0, 9, 19)
    paged = {
        "k": cache[:, 0],
        "v": cache[:, 1],
        "is_prefix_cache": True,
        "block_table": torch.zeros(2, 2, dtype=torch.int32),
        "context_kvlen_lod_cpu": lod,
        "context_kvlen_lod_xpu": lod.clone(),
    }
    assert not paged["k"].is_contiguous()
    assert words("kunlun_ops.prefill_attention", **prefill(**paged)) == []
    spread = torch.zeros(5, 3, 2, 16, 32)[:, 0]
    (found,) = words("kunlun_ops.prefill_attention", **prefill(**{**paged, "k": spread}))
    assert "'k'" in found
    assert "packed pages" in found
    del paged["block_table"]
    (found,) = words("kunlun_ops.prefill_attention", **prefill(**paged))
    assert "without block_table" in found


def change(call: Callable[[], dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {**call(), **changes}


X, W, OUT, EPS = rmsnorm()
WRITE = paged_write()[0]
SPECULATIVE, LATENT = "kunlun_ops.speculative_attention", "kunlun_ops.paged_attention"

PLANTS: dict[str, tuple[str, list[Any], dict[str, Any], list[str]]] = {
    # what is wrong: function, args, kwargs, words of the one violation
    "unknown function": (
        "kunlun_ops.rms_norm", [X, W, OUT, EPS], {}, ["rms_norm", "not in the contract"],
    ),
    "order": ("kunlun_ops.rmsnorm", [W, X, OUT, EPS], {}, ["'weight'", "[3, 8]", "[C]"]),
    "by name instead of position": (
        "kunlun_ops.rmsnorm", [X, W, OUT], {"eps": EPS}, ["'eps'", "by name", "position 3"],
    ),
    "by position instead of name": (
        "kunlun_ops.swiglu", [torch.ones(3, 8)], {"y": torch.empty(3, 4)},
        ["position 0", "none", "by name"],
    ),
    "twice": (
        "kunlun_ops.quant2d", [X, torch.empty(3, 8, dtype=torch.int8), torch.empty(3, 1)],
        {"x": X}, ["'x'", "by position and by name"],
    ),
    "unknown name": (
        "kunlun_ops.swiglu", [], {"x": torch.ones(3, 8), "y": torch.empty(3, 4), "turn": True},
        ["'turn'", "no such argument", "x, y"],
    ),
    "left out": (
        "kunlun_ops.rmsnorm", [X, W, OUT], {}, ["'eps'", "nothing", "in every call"],
    ),
    "dtype": (
        "kunlun_ops.reshape_and_cache_flash", [*WRITE[:4], WRITE[4].float()], {},
        ["'slot_mapping'", "float32", "int64 or int32"],
    ),
    "two dtypes of the model": (
        "kunlun_ops.rmsnorm", [X, W.half(), OUT, EPS], {},
        ["'weight'", "float16", "float32, the dtype of 'x'"],
    ),
    "not a tensor": ("kunlun_ops.rmsnorm", [X, None, OUT, EPS], {}, ["'weight'", "None"]),
    "not a number": (
        "kunlun_ops.rmsnorm", [X, W, OUT, 1], {}, ["'eps'", "int 1", "type float"],
    ),
    "size": (
        SPECULATIVE, [], change(decode, head_num=5),
        ["'q'", "[1, 3, 4, 32]", "H = 5 from 'head_num'"],
    ),
    "stated size": (
        "xspeedgate_ops.mask_for_I8_mqa_logits", [],
        {"seq_len_kv": 7, "cu_seqlen_ks": ints(0, 0), "cu_seqlen_ke": ints(1, 1),
         "logits": torch.zeros(2, 6)},
        ["'logits'", "[2, 6]", "N = 7 from 'seq_len_kv'"],
    ),
    "count of copies": (
        "kunlun_ops.prefill_attention", [],
        prefill(alibi_slopes=torch.ones(3)), ["'alibi_slopes'", "[3]", "H = 4"],
    ),
    "strides": (
        "kunlun_ops.rmsnorm", [torch.ones(8, 3).t(), W, OUT, EPS], {},
        ["'x'", "strides [1, 3]", "contiguous"],
    ),
    "rows of a cache": (
        "kunlun_ops.reshape_and_cache_flash",
        [*WRITE[:2], torch.zeros(5, 2, 32, 16).mT, *WRITE[3:]], {}, ["'key_cache'", "strides"],
    ),
    "unequal copies": (
        SPECULATIVE, [], change(decode, context_lens_xpu=ints(1, 2, 4)),
        ["'context_lens_cpu'", "other values than 'context_lens_xpu'"],
    ),
    "unequal copies in a tuple": (
        "kunlun_ops.I8_mqa_logits", [],
        change(indexer_logits, context_q_lens=(ints(0, 3), ints(0, 2))),
        ["'context_q_lens[0]'", "other values"],
    ),
    "a tuple of one": (
        "kunlun_ops.I8_mqa_logits", [],
        change(indexer_logits, context_q_lens=(ints(0, 3),)), ["'context_q_lens'", "2 tensors"],
    ),
    "another constant": (
        LATENT, [*latent_decode()[0][:7], True, *latent_decode()[0][8:]],
        {"q_r": latent_decode()[0][1]}, ["'is_context'", "bool True", "False"],
    ),
    "something for nothing": (
        "kunlun_ops.fwd_kvcache_mla", [], change(sparse_decode, pe_cache=X),
        ["'pe_cache'", "float32", "None"],
    ),
    "three queries": (
        "kunlun_ops.fwd_kvcache_mla", [],
        change(
            sparse_decode,
            q_c=torch.ones(2, 3, 4, 40, dtype=torch.bfloat16),
            indices=torch.zeros(2, 3, 8, dtype=torch.int32),
            out=torch.empty(2, 3, 4, 32, dtype=torch.bfloat16),
            max_logits=torch.empty(2, 3, 4),
            p_sums=torch.empty(2, 3, 4),
        ),
        ["(size S)", "3", "at most 2"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_violation_is_said_in_words(plant: str) -> None:
    function, args, kwargs, parts = PLANTS[plant]
    found = words(function, *args, **kwargs)
    assert any(all(part in line for part in (*parts, function)) for line in found), found
    assert all(line.startswith(function) for line in found)


def test_equal_violations_are_counted_and_other_calls_pass() -> None:
    bad, good = [X, W, OUT, 1], [X, W, OUT, EPS]
    calls = [describe_call("kunlun_ops.rmsnorm", args, {}) for args in (bad, good, bad)]
    assert list(check(calls, CONTRACT).values()) == [2]
    with pytest.raises(AssertionError, match=r"3 calls.*\n2 times .*rmsnorm: .*'eps'"):
        fake_vendor.assert_within_contract(calls)
    with pytest.raises(AssertionError, match="no call"):
        fake_vendor.assert_within_contract([])


# ------------------------------------------------------------------------- host and device


def on_device(call: dict[str, Any], *host: str) -> dict[str, Any]:
    return {
        name: value.to("meta") if isinstance(value, torch.Tensor) and name not in host else value
        for name, value in call.items()
    }


def test_each_copy_lies_where_it_should() -> None:
    assert words(SPECULATIVE, **on_device(decode(), "context_lens_cpu")) == []
    (found,) = words(SPECULATIVE, **on_device(decode()))
    assert "'context_lens_cpu' was sent a tensor on meta" in found
    assert "in host memory" in found
    both = ("context_lens_cpu", "context_lens_xpu")
    (found,) = words(SPECULATIVE, **on_device(decode(), *both))
    assert "'context_lens_xpu' was sent a tensor on cpu" in found
    assert "on the device" in found


def test_attention_sends_each_copy_from_where_it_is() -> None:
    """The step's device tensors are meta tensors: reading one would fail, swapping one shows."""
    from vllm.v1.attention.backend import CommonAttentionMetadata

    from vllm_kunlun.ops.attention.implementation import KunlunAttentionImpl
    from vllm_kunlun.ops.attention.metadata import KunlunAttentionMetadataBuilder
    from vllm_kunlun.ops.vendor_ops import library
    from vllm_kunlun.platforms.vllm_compat.step_on_host import SEQ_LENS

    new, held = [1, 1, 5, 3], [4, 9, 0, 6]
    start = torch.tensor([0, *new]).cumsum(0).to(torch.int32)
    lengths = (torch.tensor(new) + torch.tensor(held)).to(torch.int32)
    step = CommonAttentionMetadata(
        query_start_loc=start.to("meta"),
        query_start_loc_cpu=start,
        seq_lens=lengths.to("meta"),
        num_reqs=4,
        num_actual_tokens=10,
        max_query_len=5,
        max_seq_len=10,
        block_table_tensor=torch.zeros(4, 2, dtype=torch.int32, device="meta"),
        slot_mapping=torch.zeros(10, dtype=torch.int64, device="meta"),
        causal=True,
        **{SEQ_LENS: lengths},
    )
    builder = KunlunAttentionMetadataBuilder.__new__(KunlunAttentionMetadataBuilder)
    builder.reorder_batch_threshold = 1
    metadata = builder.build(0, step)
    calls: list[dict[str, Any]] = []

    class Recorder:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *args, **kwargs: calls.append(
                describe_call(f"kunlun_ops.{name}", args, kwargs)
            )

    tokens = torch.empty(10, 4, 32, device="meta")
    fresh = torch.empty(2, 10, 2, 32, device="meta")
    cache = torch.empty(2, 5, 2, 16, 32, device="meta")
    with library.use_libraries(kunlun_ops=Recorder()):
        KunlunAttentionImpl(4, 32, 0.2, 2).forward(
            torch.nn.Module(), tokens, *fresh, cache, metadata, torch.empty_like(tokens)
        )
    assert [call["function"].partition(".")[2] for call in calls] == [
        "reshape_and_cache_flash", "speculative_attention", "prefill_attention",
    ]  # fmt: skip
    fake_vendor.assert_within_contract(calls)


# ---------------------------------------------------------------------------- the fakes


CALLED = {each.name: each for each in called()}
ASSUMED = {"flash_attn.flash_attn_varlen_func": {"softmax_scale"}}
"""Arguments that we pass and that no public call does: only an assumption speaks for them."""


def test_every_function_that_we_call_is_described() -> None:
    assert set(CONTRACT) == set(CALLED)


@pytest.mark.parametrize("function", CONTRACT)
def test_the_description_has_the_arguments_of_the_wheel_s_table(function: str) -> None:
    """Two descriptions, one by shapes and one by calls: names, order and kind are the same."""
    signature, called = CONTRACT[function], CALLED[function]
    positional, named = called.arguments
    assert signature.section == str(called.section)
    assert [p.name for p in signature.positional if p.name not in named] == positional
    by_name = {*(p.name for p in signature.named), *signature.either} - set(positional)
    assert by_name == set(named) - ASSUMED.get(function, set())


def run_under_the_fake(program: str, records: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            **fake_vendor.environment(records),
            "PYTHONPATH": os.pathsep.join(fake_vendor.import_path()),
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return list(vendor_calls.read(records))


CONFORMANCE = """
import torch
from vllm_kunlun.ops.contract.findings import FINDINGS
from vllm_kunlun.ops.conformance import run
from vllm_kunlun.ops.conformance.cases import CASES

# What cases ask beyond the contract, each for an assumption: dtypes that it does not name,
BFLOAT16, FLOAT16 = {torch.bfloat16}, {torch.float16}
DTYPES = {
    "kunlun_ops.sparse_prefill_fwd_opt": BFLOAT16,
    "kunlun_ops.fwd_kvcache_mla": BFLOAT16,
    "kunlun_ops.mla_bmm_I8": FLOAT16,
    **{f"xspeedgate_ops.{name}": BFLOAT16 | FLOAT16
       for name in ("chunk_scaled_dot_kkt_fwd", "recompute_w_u_fwd", "chunk_gated_delta_rule_fwd_h",
                    "chunk_fwd_o")},
}
# and arguments that it has not, or has in every call.
ARGUMENTS = {"prefill-default-alpha", "flash-attn-packed-scale"}
# The contract names the default form of a function.
NAMED = {(each.name, each.function): (each.default, "yes") for each in FINDINGS}
for case in CASES:
    if case.form not in NAMED.get((case.finding, case.function), (case.form,)):
        continue
    for dtype in case.dtypes:
        if dtype in DTYPES.get(case.function, {dtype}) and case.assumption not in ARGUMENTS:
            result = run(case, dtype)
            assert result.passed, (case.function, case.label, dtype, result.message)
"""


def test_every_conformance_case_is_within_the_contract(tmp_path: Path) -> None:
    """Through the fakes as a card's process imports them, ``torch.ops`` with schemas among them."""
    from vllm_kunlun.ops.conformance.cases import CASES

    calls = run_under_the_fake(CONFORMANCE, tmp_path / "records")
    assert {call["function"] for call in calls} == {case.function for case in CASES}
    fake_vendor.assert_within_contract(calls)


FLASH_ATTENTION = """
import torch
import flash_attn

torch.manual_seed(0)
q, k, v = torch.randn(3, 7, 4, 32)
lod = torch.tensor([0, 3, 7], dtype=torch.int32)
came = flash_attn.flash_attn_varlen_func(
    q, k, v, cu_seqlens_q=lod, cu_seqlens_k=lod, max_seqlen_q=4, max_seqlen_k=4
)
for part in (slice(0, 3), slice(3, 7)):
    scores = torch.einsum("qhd,khd->hqk", q[part].double(), k[part].double()) / 32**0.5
    wanted = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[part].double())
    torch.testing.assert_close(came[part].double(), wanted, atol=1e-5, rtol=0)
    alone = flash_attn.flash_attn_func(*(t[None, part] for t in (q, k, v)), softmax_scale=32**-0.5)
    torch.testing.assert_close(alone[0], came[part], atol=1e-5, rtol=0)
"""


def test_the_fake_of_flash_attention(tmp_path: Path) -> None:
    calls = run_under_the_fake(FLASH_ATTENTION, tmp_path / "records")
    names = [call["function"] for call in calls]
    assert names == ["flash_attn.flash_attn_varlen_func", *["flash_attn.flash_attn_func"] * 2]
    fake_vendor.assert_within_contract(calls)


def test_a_function_of_torch_ops_is_held_against_its_schema(tmp_path: Path) -> None:
    program = """
import torch
import xspeedgate_ops

try:
    torch.ops.xspeedgate_ops.moe_pre_small(
        torch.zeros(1, 1, dtype=torch.int32), "8", x=torch.zeros(1, 8)
    )
except RuntimeError as refused:
    assert "moe_pre_small" in str(refused), refused
else:
    raise SystemExit("a string for a number was taken")
"""
    (call,) = run_under_the_fake(program, tmp_path / "records")
    (found,) = words_of(call)
    assert "'num_experts' was sent str 8" in found
