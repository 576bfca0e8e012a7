# SPDX-License-Identifier: Apache-2.0
"""Prefill attention: any shape against the cases' formula, by hand, and refusals."""

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
    prefill_attention,
)
from vllm_kunlun.ops.conformance import Call, Case, Inputs, run
from vllm_kunlun.ops.conformance.cases.attention import Heads, Pages, prefill

TOLERANCES = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Of a result rounded once, closer than what a card is allowed."""


DTYPES = list(TOLERANCES)


NOTHING_OF_OTHERS = {"filler": math.nan, "unused": 1 << 20}
"""Memory that no request owns, and pages that do not exist."""


def check(function: str, build: Callable[[Inputs], Call], dtype: torch.dtype, seed: int) -> None:
    case = Case(f"kunlun_ops.{function}", f"seed {seed}", build, tolerances=TOLERANCES)
    result = run(case, dtype)
    assert result.passed, result.message


def made(build: Callable[..., Call], *args: Any, **options: Any) -> dict[str, Any]:
    """Keyword arguments of a call in float32."""
    return dict(build(Inputs(0, torch.float32), *args, **options).kwargs)


def small_prefill(lengths: list[int], contexts: list[int] | None = None) -> dict[str, Any]:
    return made(prefill, lengths, contexts, Heads(4, 2, 32), Pages(4))


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


def _column_major(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


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
