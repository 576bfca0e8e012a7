# SPDX-License-Identifier: Apache-2.0
"""Dense attention of the emulator: any shape against the cases' formula, by hand, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.kunlun_ops import (
    attention_merge_stage,
    prefill_attention,
    speculative_attention,
)
from vllm_kunlun.ops.conformance import Call, Case, Inputs, run
from vllm_kunlun.ops.conformance.attention_formula import attend
from vllm_kunlun.ops.conformance.cases.attention import Heads, Pages, decode, merge, prefill

TOLERANCES = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Of a result rounded once, closer than what a card is allowed."""
DTYPES = list(TOLERANCES)
NOTHING_OF_OTHERS = {"filler": math.nan, "unused": 1 << 20}
"""Memory that no request owns, and pages that do not exist."""
Tensor = torch.Tensor


def check(function: str, build: Callable[[Inputs], Call], dtype: torch.dtype, seed: int) -> None:
    case = Case(f"kunlun_ops.{function}", f"seed {seed}", build, tolerances=TOLERANCES)
    result = run(case, dtype)
    assert result.passed, result.message


def made(build: Callable[..., Call], *args: Any, **options: Any) -> dict[str, Any]:
    """Keyword arguments of a call in float32."""
    return dict(build(Inputs(0, torch.float32), *args, **options).kwargs)


def small_decode(lengths: list[int], *, alternating: bool = False) -> dict[str, Any]:
    return made(decode, lengths, 1, Heads(4, 2, 32), Pages(4, alternating=alternating))


def small_prefill(lengths: list[int], contexts: list[int] | None = None) -> dict[str, Any]:
    return made(prefill, lengths, contexts, Heads(4, 2, 32), Pages(4))


def test_decode_by_hand() -> None:
    """Two keys with scores ln 1 and ln 3: the values are averaged 1 to 3."""
    call = made(decode, [2], 1, Heads(1, 1, 32), scale=math.log(3))
    page = int(call["block_tables"][0, 0])
    call["q"].zero_()[..., 0] = 1.0
    call["k_cache"][page].zero_()[0, 1, 0] = 1.0
    call["v_cache"][page, 0, 0] = 4.0
    call["v_cache"][page, 0, 1] = 8.0
    speculative_attention(**call)
    torch.testing.assert_close(call["out"], torch.full((1, 1, 32), 7.0))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=7),
    qlen=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    size=st.sampled_from([32, 80, 96]),
    block_size=st.sampled_from([1, 4, 16]),
    window=st.sampled_from([-1, 1, 5, 33]),
    sink=st.booleans(),
    alternating=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_decode_any_shape(
    lengths: list[int], qlen: int, kv_heads: int, group: int, size: int, block_size: int,
    window: int, sink: bool, alternating: bool, dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    """A warm-up batch may have fewer keys than queries: rows before the first key give zeros."""
    heads = Heads(kv_heads * group, kv_heads, size)
    pages = Pages(block_size, alternating, **NOTHING_OF_OTHERS)
    check(
        "speculative_attention",
        lambda i: decode(i, lengths, qlen, heads, pages, window=window, sink=sink),
        dtype,
        seed,
    )


def test_one_batch_or_one_by_one_is_the_same() -> None:
    call = made(decode, [33, 7, 64], 1, Heads(6, 3, 32))
    speculative_attention(**call)
    for row in range(3):
        alone = call | {
            "q": call["q"][:, row : row + 1].contiguous(),
            "out": torch.empty_like(call["out"][:1]),
            "context_lens_cpu": call["context_lens_cpu"][row : row + 1],
            "context_lens_xpu": call["context_lens_xpu"][row : row + 1],
            "block_tables": call["block_tables"][row : row + 1],
            "batch_num": 1,
        }
        speculative_attention(**alone)
        torch.testing.assert_close(alone["out"][0], call["out"][row], rtol=1e-5, atol=1e-6)


def test_prefill_by_hand() -> None:
    """Scores ln 3 for key 1 and ln 1 for key 0: the second query averages the values 3 to 1."""
    alpha = math.log(3) * math.sqrt(32)
    call = made(prefill, [2], None, Heads(1, 1, 32), alpha=alpha)
    call["q"].zero_()[..., 0] = 1.0
    call["k"].zero_()[1, 0, 0] = 1.0
    call["v"][0], call["v"][1] = 4.0, 8.0
    prefill_attention(**call)
    torch.testing.assert_close(call["out"][0], torch.full((1, 32), 4.0))
    torch.testing.assert_close(call["out"][1], torch.full((1, 32), 7.0))


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=6),
    is_paged=st.booleans(),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    size=st.sampled_from([32, 80]),
    block_size=st.sampled_from([1, 4, 16]),
    causal=st.booleans(),
    window=st.sampled_from([(-1, -1), (1, 0), (6, 0), (6, 5), (30, 3)]),
    alibi=st.booleans(),
    sink=st.booleans(),
    lse=st.booleans(),
    alternating=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_prefill_any_shape(
    requests: list[tuple[int, int]], is_paged: bool, kv_heads: int, group: int, size: int,
    block_size: int, causal: bool, window: tuple[int, int], alibi: bool, sink: bool, lse: bool,
    alternating: bool, dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    lengths, contexts = [list(each) for each in zip(*requests, strict=True)]
    heads = Heads(kv_heads * group, kv_heads, size)
    pages = Pages(block_size, alternating, **NOTHING_OF_OTHERS)
    check(
        "prefill_attention",
        lambda i: prefill(
            i, lengths, contexts if is_paged else None, heads, pages, causal=causal, window=window,
            alibi=alibi, sink=sink, lse=lse,
        ),
        dtype,
        seed,
    )  # fmt: skip


def test_long_query_against_torch() -> None:
    """Tiled rows over a prefix, against torch's own attention with an explicit mask."""
    query_len, context = 700, 1300
    call = made(prefill, [query_len], [context], Heads(6, 2, 64), alpha=1.0)
    prefill_attention(**call)
    pages = call["block_table"][0, : (query_len + context) // 16].long()
    keys, values = (
        call[name][pages].transpose(0, 1).flatten(1, 2).repeat_interleave(3, 0) for name in "kv"
    )
    mask = torch.ones(query_len, query_len + context).tril(context).bool()
    expected = torch.nn.functional.scaled_dot_product_attention(
        call["q"].transpose(0, 1), keys, values, attn_mask=mask
    )
    torch.testing.assert_close(call["out"].transpose(0, 1), expected, rtol=1e-5, atol=1e-5)


def merge_call(tokens: int) -> list[Tensor]:
    return list(merge(Inputs(0, torch.float32), tokens).args)


def test_merge_undoes_a_split_of_the_keys() -> None:
    """Attention over keys 0..5 and 6..8, merged, is attention over all of them."""
    q, k, v = torch.randn(4, 2, 16), torch.randn(9, 2, 16), torch.randn(9, 2, 16)
    whole, whole_lse = attend(q, k, v, 0.2, causal=False)
    halves = [attend(q, k[part], v[part], 0.2, causal=False) for part in (slice(6), slice(6, 9))]
    call = [t.float().contiguous() for out, lse in halves for t in (out, lse.T)]
    call += [torch.empty_like(call[0]), torch.empty_like(call[1])]
    attention_merge_stage(*call)
    torch.testing.assert_close(call[4].double(), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(call[5].double(), whole_lse.T, rtol=1e-5, atol=1e-6)


def test_two_sides_without_keys() -> None:
    """-1e30 on both sides is harmless and -inf is not: the caller clamps."""
    for lse, nothing in ((-1e30, False), (-math.inf, True)):
        call = [torch.zeros(1, 2, 4), torch.full((1, 2), lse)] * 2
        call += [torch.empty(1, 2, 4), torch.empty(1, 2)]
        attention_merge_stage(*call)
        assert bool(call[4].isnan().all()) == nothing == bool(call[5].isnan().all())
        assert nothing or (not call[4].any() and bool((call[5] < -1e29).all()))


def test_merge_into_its_own_input() -> None:
    call = merge_call(3)
    attention_merge_stage(*call)
    expected = call[4].clone()
    call[4] = call[0]
    attention_merge_stage(*call)
    torch.testing.assert_close(call[0], expected)


def test_the_formula_is_torchs_attention() -> None:
    """What the cases expect, against torch: grouped heads, the mask at the last key."""
    q, k, v = torch.randn(5, 6, 8), torch.randn(9, 2, 8), torch.randn(9, 2, 8)
    wide = [each.double().transpose(0, 1) for each in (q, k, v)]
    mask = torch.ones(5, 9).tril(4).bool()
    expected = torch.nn.functional.scaled_dot_product_attention(
        *wide, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(attend(q, k, v, 0.3)[0], expected.transpose(0, 1))


def _column_major(tensor: Tensor) -> Tensor:
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


DECODE_VIOLATIONS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "q dtype": ("q", lambda c: c["q"].double()),
    "q not contiguous": ("q", lambda c: _column_major(c["q"])),
    "q shape": ("q", lambda c: c["q"][..., :16].contiguous()),
    "q None": ("q", lambda c: None),
    "out dtype": ("out", lambda c: c["out"].half()),
    "out not contiguous": ("out", lambda c: _column_major(c["out"])),
    "cache dtype": ("k_cache", lambda c: c["k_cache"].half()),
    "cache heads": ("v_cache", lambda c: c["v_cache"][:, :1]),
    "cache page not contiguous": ("k_cache", lambda c: _column_major(c["k_cache"])),
    "lengths differ": ("context_lens_xpu", lambda c: c["context_lens_xpu"] + 1),
    "lengths int64": ("context_lens_cpu", lambda c: c["context_lens_cpu"].long()),
    "lengths count": ("context_lens_cpu", lambda c: c["context_lens_cpu"][:1]),
    "batch": ("q", lambda c: c["q"][:, :1]),
    "length beyond the maximum": ("max_context_len", lambda c: 8),
    "table int64": ("block_tables", lambda c: c["block_tables"].long()),
    "table width": ("block_tables", lambda c: c["block_tables"][:, :1].contiguous()),
    "page too large": ("block_tables", lambda c: c["block_tables"] + 1000),
    "page negative": ("block_tables", lambda c: c["block_tables"] - 1000),
    "window 0": ("max_window_size", lambda c: 0),
    "sink half": ("sink", lambda c: torch.zeros(4).half()),
    "sink shape": ("sink", lambda c: torch.zeros(3)),
    "head size": ("head_dim", lambda c: 64),
    "batch number": ("batch_num", lambda c: 1024),
    "block size": ("block_size", lambda c: 8),
}


@pytest.mark.parametrize("case", DECODE_VIOLATIONS)
def test_decode_refuses(case: str) -> None:
    argument, change = DECODE_VIOLATIONS[case]
    call = small_decode([6, 9])
    with pytest.raises(VendorContractError) as raised:
        speculative_attention(**call | {argument: change(call)})
    assert raised.value.function == "speculative_attention"
    # A number that contradicts a tensor is told of the tensor.
    told = {"max_context_len": "context_lens_cpu", "head_dim": "q", "block_size": "k_cache"}
    assert raised.value.argument == told.get(argument, argument)


def test_decode_refuses_after_a_call_that_was_right() -> None:
    """What is remembered of a step's lengths does not let wrong ones through."""
    call = small_decode([5, 9])
    speculative_attention(**call)
    for lengths in (call["context_lens_xpu"].long(), call["context_lens_xpu"] + 1):
        with pytest.raises(VendorContractError, match="context_lens_xpu"):
            speculative_attention(**{**call, "context_lens_xpu": lengths})


def test_decode_refuses_a_head_size_the_card_has_not() -> None:
    call = made(decode, [6], 1, Heads(4, 2, 40))
    with pytest.raises(VendorContractError, match="head_dim"):
        speculative_attention(**call)


def test_interleaved_cache_needs_doubled_pages() -> None:
    call = small_decode([6, 9], alternating=True)
    with pytest.raises(VendorContractError, match="block_tables"):
        speculative_attention(**call | {"block_tables": call["block_tables"] // 2 * 2 + 1})


def test_caches_must_be_dense_or_alternate() -> None:
    """Pages three apart: the doubled block table would read other memory."""
    call = small_decode([6])
    wide = torch.zeros(call["k_cache"].shape[0], 3, *call["k_cache"].shape[1:])
    with pytest.raises(VendorContractError, match="k_cache"):
        speculative_attention(**call | {"k_cache": wide[:, 0], "v_cache": wide[:, 1]})


PREFILL_VIOLATIONS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "q dtype": ("q", lambda c: c["q"].double()),
    "q dims": ("q", lambda c: c["q"].unsqueeze(0)),
    "q not contiguous": ("q", lambda c: _column_major(c["q"])),
    "out shape": ("out", lambda c: c["out"][:2]),
    "out dtype": ("out", lambda c: c["out"].half()),
    "k dtype": ("k", lambda c: c["k"].half()),
    "v heads": ("v", lambda c: c["v"][..., :1, :].contiguous()),
    "lods differ": ("context_qlen_lod_xpu", lambda c: c["context_qlen_lod_xpu"] + 1),
    "lod int64": ("context_qlen_lod_cpu", lambda c: c["context_qlen_lod_cpu"].long()),
    "alibi half": ("alibi_slopes", lambda c: torch.zeros(4).half()),
    "alibi shape": ("alibi_slopes", lambda c: torch.zeros(3)),
    "sink shape": ("sink", lambda c: torch.zeros(3)),
    "lse shape": ("softmax_lse", lambda c: torch.zeros(9, 4)),
    "lse dtype": ("softmax_lse", lambda c: torch.zeros(4, 9).half()),
    "window 0": ("swa_left", lambda c: 0),
    "window -2": ("swa_right", lambda c: -2),
}


@pytest.mark.parametrize("is_paged", [False, True])
@pytest.mark.parametrize("case", PREFILL_VIOLATIONS)
def test_prefill_refuses(case: str, is_paged: bool) -> None:
    argument, change = PREFILL_VIOLATIONS[case]
    call = small_prefill([6, 3], [2, 0] if is_paged else None)
    with pytest.raises(VendorContractError) as raised:
        prefill_attention(**call | {argument: change(call)})
    assert (raised.value.function, raised.value.argument) == ("prefill_attention", argument)


@pytest.mark.parametrize(
    "argument", ["block_table", "context_kvlen_lod_cpu", "context_kvlen_lod_xpu"]
)
def test_prefill_on_cache_needs_table_and_lengths(argument: str) -> None:
    call = small_prefill([6], [2])
    with pytest.raises(VendorContractError) as raised:
        prefill_attention(**call | {argument: None})
    assert raised.value.argument == argument


def test_prefill_on_tokens_takes_no_table() -> None:
    """Without ``is_prefix_cache`` a table or other key lengths would be ignored silently."""
    call = small_prefill([6])
    with pytest.raises(VendorContractError, match="block_table"):
        prefill_attention(**call, block_table=torch.zeros(1, 2, dtype=torch.int32))
    lod = torch.tensor([0, 7], dtype=torch.int32)
    with pytest.raises(VendorContractError, match="context_kvlen_lod_cpu"):
        prefill_attention(**call, context_kvlen_lod_cpu=lod, context_kvlen_lod_xpu=lod)


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"context_qlen_lod_cpu": [0, 6, 8]}, "context_qlen_lod_cpu"),  # not all tokens
        ({"context_qlen_lod_cpu": [1, 6, 9]}, "context_qlen_lod_cpu"),  # not from 0
        ({"context_qlen_lod_cpu": [0, 10, 9]}, "context_qlen_lod_cpu"),  # falls
        ({"context_kvlen_lod_cpu": [0, 5, 11]}, "context_kvlen_lod_cpu"),  # shorter than query
        ({"context_kvlen_lod_cpu": [0, 8]}, "context_kvlen_lod_cpu"),  # another batch
        ({"context_kvlen_lod_cpu": [0, 8, 800]}, "block_table"),  # beyond the table
    ],
)
def test_prefill_refuses_lods(changes: dict[str, list[int]], argument: str) -> None:
    call = small_prefill([6, 3], [2, 0])
    for name, values in changes.items():
        lod = torch.tensor(values, dtype=torch.int32)
        call |= {name: lod, name.replace("cpu", "xpu"): lod.clone()}
    with pytest.raises(VendorContractError) as raised:
        prefill_attention(**call)
    assert raised.value.argument == argument


@pytest.mark.parametrize(
    ("index", "argument", "change"),
    [
        (0, "prefix_output", lambda t: t.double()),
        (1, "prefix_lse", lambda t: t.half()),
        (2, "suffix_output", lambda t: t[:1]),
        (3, "suffix_lse", lambda t: t.T.contiguous()),
        (4, "output", _column_major),
        (5, "output_lse", lambda t: t[:1]),
        (5, "output_lse", lambda t: None),
    ],
)
def test_merge_refuses(index: int, argument: str, change: Callable[[Tensor], Any]) -> None:
    call = merge_call(4)
    call[index] = change(call[index])
    with pytest.raises(VendorContractError) as raised:
        attention_merge_stage(*call)
    assert (raised.value.function, raised.value.argument) == ("attention_merge_stage", argument)
