# SPDX-License-Identifier: Apache-2.0
"""Paged decode attention: any shape against the cases' formula, by hand, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.functions import attention_decode
from vllm_kunlun.emulator.kunlun_ops import (
    speculative_attention,
)
from vllm_kunlun.ops.conformance import Call, Case, Inputs, run
from vllm_kunlun.ops.conformance.cases.attention import Heads, Pages, decode

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


def small_decode(lengths: list[int], *, alternating: bool = False) -> dict[str, Any]:
    return made(decode, lengths, 1, Heads(4, 2, 32), Pages(4, alternating=alternating))


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


def test_pages_of_16_bits_are_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy of them is made, and a table as wide as the longest request changes nothing."""
    call = dict(decode(Inputs(0, torch.float16), [5, 2], 1, Heads(2, 1, 32), Pages(4)).kwargs)
    speculative_attention(**call)
    wide = torch.zeros(2, 4096, dtype=torch.int32)
    wide[:, : call["block_tables"].shape[1]] = call["block_tables"]
    out = torch.empty_like(call["out"])
    attend, read = attention_decode.attend, []

    def note(query: torch.Tensor, keys: torch.Tensor, *rest: Any) -> None:
        read.append(keys.data_ptr())
        attend(query, keys, *rest)

    monkeypatch.setattr(attention_decode, "attend", note)
    speculative_attention(
        **call | {"block_tables": wide, "max_num_blocks_per_seq": 4096, "out": out}
    )
    assert read == [call["k_cache"].data_ptr()]
    assert torch.equal(out, call["out"])


def _column_major(tensor: torch.Tensor) -> torch.Tensor:
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
