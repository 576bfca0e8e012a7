# SPDX-License-Identifier: Apache-2.0
"""Dense attention of the emulator against the formula in float64, a request and head at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kunlun.ops.emulator.contract import VendorContractError
from vllm_kunlun.ops.emulator.kunlun_ops import (
    attention_merge_stage,
    prefill_attention,
    speculative_attention,
)

TOLERANCE = {  # of a result rounded once
    torch.float32: {"rtol": 2e-5, "atol": 2e-5},
    torch.float16: {"rtol": 1e-3, "atol": 2e-5},
    torch.bfloat16: {"rtol": 8e-3, "atol": 2e-5},
}
DTYPES = list(TOLERANCE)
Tensor = torch.Tensor


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    *,
    causal: bool = True,
    left: int = -1,
    right: int = -1,
    alibi: Tensor | None = None,
    sink: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One request: q ``[Lq, H, D]``, k and v ``[Lk, KVH, D]`` -> output and lse ``[H, Lq]``."""
    q, k, v = q.double(), k.double(), v.double()
    query_len, heads, _ = q.shape
    key_len = k.shape[0]
    out, lse = torch.zeros_like(q), torch.full((heads, query_len), -math.inf).double()
    for head in range(heads):
        kv_head = head // (heads // k.shape[1])
        for row in range(query_len):
            at = row + key_len - query_len
            seen = [
                key
                for key in range(key_len)
                if (not causal or key <= at)
                and (left < 0 or at - key < left)
                and (right < 0 or key - at <= right)
            ]
            if not seen:
                continue
            scores = k[seen, kv_head] @ q[row, head] * scale
            if alibi is not None:
                scores = scores + alibi[head].double() * (torch.tensor(seen).double() - at)
            weights = scores if sink is None else torch.cat([scores, sink[head, None].double()])
            lse[head, row] = weights.logsumexp(0)
            out[row, head] = (scores - lse[head, row]).exp() @ v[seen, kv_head]
    return out, lse


def paged(
    keys: list[Tensor], block_size: int, dtype: torch.dtype, *, interleaved: bool, poison: float
) -> tuple[Tensor, Tensor, Callable[[int], Tensor]]:
    """Scatter each request's ``[2, L, KVH, D]`` into pages in a shuffled order.

    Everything that no request owns is ``poison``. Returns key cache, value cache, and the block
    table by width; its unused entries are out of range.
    """
    counts = [-(-each.shape[1] // block_size) for each in keys]
    total = sum(counts) + 2
    heads, size = keys[0].shape[2:]
    shape = (total, 2) if interleaved else (2, total)
    memory = torch.full((*shape, heads, block_size, size), poison, dtype=dtype)
    caches = memory.unbind(1 if interleaved else 0)
    order = (torch.randperm(total - 1) + 1).tolist()
    rows: list[list[int]] = []
    for each, count in zip(keys, counts, strict=True):
        rows.append([order.pop() for _ in range(count)])
        for token in range(each.shape[1]):
            for cache, part in zip(caches, each, strict=True):
                cache[rows[-1][token // block_size], :, token % block_size] = part[token].to(dtype)

    def table(width: int) -> Tensor:
        full = torch.full((len(rows), width), 1 << 20, dtype=torch.int32)
        for index, row in enumerate(rows):
            full[index, : len(row)] = torch.tensor(row, dtype=torch.int32)
        return full * 2 if interleaved else full

    return caches[0], caches[1], table


def decode_call(
    lens: list[int],
    qlen: int = 1,
    heads: int = 4,
    kv_heads: int = 2,
    size: int = 32,
    block_size: int = 4,
    dtype: torch.dtype = torch.float32,
    interleaved: bool = False,
    window: int = -1,
    sink: Tensor | None = None,
    scale: float = 0.3,
    poison: float = math.nan,
) -> tuple[dict[str, Any], list[Tensor]]:
    """Keyword arguments of ``speculative_attention``, and each request's keys and values."""
    content = [torch.randn(2, n, kv_heads, size).to(dtype) for n in lens]
    k_cache, v_cache, table = paged(
        content, block_size, dtype, interleaved=interleaved, poison=poison
    )
    width = max([-(-n // block_size) for n in lens], default=0) + 2
    batch = len(lens)
    lengths = torch.tensor(lens, dtype=torch.int32)
    q = torch.randn((batch, qlen, heads, size)).to(dtype)
    out = torch.full_like(q, math.nan)
    return {
        "out": out.squeeze(1) if qlen == 1 else out,
        "q": q.view(1, batch, heads, size) if qlen == 1 else q,
        "k_cache": k_cache,
        "v_cache": v_cache,
        "context_lens_cpu": lengths,
        "context_lens_xpu": lengths.clone(),
        "batch_num": batch,
        "qlen": qlen,
        "max_context_len": 131072,
        "head_num": heads,
        "head_dim": size,
        "scale": scale,
        "kv_head_num": kv_heads,
        "block_size": block_size,
        "max_num_blocks_per_seq": width,
        "max_window_size": window,
        "block_tables": table(width),
        "sink": sink,
    }, content


def check_decode(call: dict[str, Any], content: list[Tensor]) -> None:
    speculative_attention(**call)
    heads, size, qlen = call["head_num"], call["head_dim"], call["qlen"]
    out, q = (call[name].reshape(-1, qlen, heads, size) for name in ("out", "q"))
    for index, (keys, values) in enumerate(content):
        expected, _ = attend(
            q[index], keys, values, call["scale"], left=call["max_window_size"], sink=call["sink"]
        )
        torch.testing.assert_close(out[index].double(), expected, **TOLERANCE[out.dtype])


def test_decode_by_hand() -> None:
    """Two keys with scores ln 1 and ln 3: the values are averaged 1 to 3."""
    call, _ = decode_call([2], heads=1, kv_heads=1, scale=math.log(3), poison=0.0)
    page = int(call["block_tables"][0, 0])
    call["q"].zero_()[..., 0] = 1.0
    call["k_cache"][page].zero_()[0, 1, 0] = 1.0
    call["v_cache"][page, 0, 0] = 4.0
    call["v_cache"][page, 0, 1] = 8.0
    speculative_attention(**call)
    torch.testing.assert_close(call["out"], torch.full((1, 1, 32), 7.0))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lens", [[1], [9], [8, 8], [3, 17, 1, 0, 40, 16]])
def test_decode(lens: list[int], dtype: torch.dtype, interleaved: bool) -> None:
    torch.manual_seed(sum(lens))
    check_decode(*decode_call(lens, dtype=dtype, interleaved=interleaved))


@settings(max_examples=25, deadline=None)
@given(
    lens=st.lists(st.integers(0, 70), min_size=1, max_size=7),
    qlen=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    size=st.sampled_from([32, 80, 96]),
    block_size=st.sampled_from([1, 4, 16]),
    window=st.sampled_from([-1, 1, 5, 33]),
    with_sink=st.booleans(),
    interleaved=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_decode_any_shape(
    lens: list[int], qlen: int, kv_heads: int, group: int, size: int, block_size: int,
    window: int, with_sink: bool, interleaved: bool, dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    heads = kv_heads * group
    lens = [max(n, qlen) if n else 0 for n in lens]
    call, content = decode_call(
        lens, qlen, heads, kv_heads, size, block_size, dtype, interleaved, window,
        torch.randn(heads) if with_sink else None,
    )  # fmt: skip
    check_decode(call, content)


def test_decode_one_long_among_short() -> None:
    check_decode(*decode_call([1500] + [5] * 40 + [130], heads=2, kv_heads=1, block_size=16))


def test_decode_of_fewer_keys_than_queries() -> None:
    """A warm-up batch may have such; the rows before the first key see nothing and give zeros."""
    call, content = decode_call([2, 5], qlen=3)
    check_decode(call, content)
    assert not call["out"][0, 0].any()


def test_decode_empty_batch() -> None:
    call, _ = decode_call([4])
    for name in ("context_lens_cpu", "context_lens_xpu", "block_tables", "out"):
        call[name] = call[name][:0]
    call["q"] = call["q"][:, :0]
    speculative_attention(**call | {"batch_num": 0})


def test_one_batch_or_one_by_one_is_the_same() -> None:
    call, content = decode_call([33, 7, 64], heads=6, kv_heads=3, poison=0.0)
    check_decode(call, content)
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


def prefill_call(
    lens: list[int],
    context: list[int] | None = None,
    heads: int = 4,
    kv_heads: int = 2,
    size: int = 32,
    block_size: int = 4,
    dtype: torch.dtype = torch.float32,
    interleaved: bool = False,
    **options: Any,
) -> tuple[dict[str, Any], list[Tensor]]:
    """Keyword arguments of ``prefill_attention``; paged if ``context`` is given."""
    context_lens = context or [0] * len(lens)
    content = [
        torch.randn(2, n + c, kv_heads, size).to(dtype)
        for n, c in zip(lens, context_lens, strict=True)
    ]
    lod = torch.tensor([0, *lens], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    tokens = sum(lens)
    call: dict[str, Any] = {
        "q": torch.randn(tokens, heads, size).to(dtype),
        "out": torch.full((tokens, heads, size), math.nan, dtype=dtype),
        "is_causal": True,
        "alpha": 1.3,
        "context_qlen_lod_cpu": lod,
        "context_qlen_lod_xpu": lod.clone(),
        "alibi_slopes": None,
        "softmax_lse": None,
        "swa_left": -1,
        "swa_right": -1,
        "sink": None,
    } | options
    if context is None:
        call["k"], call["v"] = torch.cat(content, 1).unbind(0)
    else:
        call["k"], call["v"], table = paged(
            content, block_size, dtype, interleaved=interleaved, poison=math.nan
        )
        call["block_table"] = table(max(-(-each.shape[1] // block_size) for each in content) + 1)
        total = torch.tensor([0] + [each.shape[1] for each in content], dtype=torch.int32)
        call["context_kvlen_lod_cpu"] = total.cumsum(0, dtype=torch.int32)
        call["context_kvlen_lod_xpu"] = total.cumsum(0, dtype=torch.int32)
        call["is_prefix_cache"] = True
    return call, content


def check_prefill(call: dict[str, Any], content: list[Tensor]) -> None:
    prefill_attention(**call)
    q, out, lod = call["q"], call["out"], call["context_qlen_lod_cpu"].tolist()
    for index, (keys, values) in enumerate(content):
        rows = slice(lod[index], lod[index + 1])
        expected, lse = attend(
            q[rows], keys, values, call["alpha"] / math.sqrt(q.shape[2]),
            causal=call["is_causal"], left=call["swa_left"], right=call["swa_right"],
            alibi=call["alibi_slopes"], sink=call["sink"],
        )  # fmt: skip
        torch.testing.assert_close(out[rows].double(), expected, **TOLERANCE[q.dtype])
        if call["softmax_lse"] is not None:
            torch.testing.assert_close(
                call["softmax_lse"][:, rows].double(), lse, rtol=1e-5, atol=1e-5
            )


def test_prefill_by_hand() -> None:
    """Scores ln 3 for key 1 and ln 1 for key 0: the second query averages the values 3 to 1."""
    alpha = math.log(3) * math.sqrt(32)
    call, _ = prefill_call([2], heads=1, kv_heads=1, alpha=alpha)
    call["q"].zero_()[..., 0] = 1.0
    call["k"].zero_()[1, 0, 0] = 1.0
    call["v"][0], call["v"][1] = 4.0, 8.0
    prefill_attention(**call)
    torch.testing.assert_close(call["out"][0], torch.full((1, 32), 4.0))
    torch.testing.assert_close(call["out"][1], torch.full((1, 32), 7.0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lens", [[1], [13], [5, 5, 5], [3, 40, 1, 17, 9]])
def test_prefill_packed(lens: list[int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    check_prefill(*prefill_call(lens, dtype=dtype))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("lens", "context"), [([4], [9]), ([1, 1], [3, 30]), ([7, 1, 20, 3], [0, 12, 5, 33])]
)
def test_prefill_paged(
    lens: list[int], context: list[int], dtype: torch.dtype, interleaved: bool
) -> None:
    torch.manual_seed(1)
    check_prefill(*prefill_call(lens, context, dtype=dtype, interleaved=interleaved))


@settings(max_examples=25, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=6),
    is_paged=st.booleans(),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    size=st.sampled_from([32, 80]),
    causal=st.booleans(),
    window=st.sampled_from([(-1, -1), (1, 0), (6, 0), (6, 5), (30, 3)]),
    with_alibi=st.booleans(),
    with_sink=st.booleans(),
    with_lse=st.booleans(),
    interleaved=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_prefill_any_shape(
    requests: list[tuple[int, int]], is_paged: bool, kv_heads: int, group: int, size: int,
    causal: bool, window: tuple[int, int], with_alibi: bool, with_sink: bool, with_lse: bool,
    interleaved: bool, dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    heads = kv_heads * group
    lens = [n for n, _ in requests]
    call, content = prefill_call(
        lens, [c for _, c in requests] if is_paged else None, heads, kv_heads, size, dtype=dtype,
        interleaved=interleaved, is_causal=causal, swa_left=window[0], swa_right=window[1],
        alibi_slopes=torch.rand(heads) if with_alibi else None,
        sink=torch.randn(heads) if with_sink else None,
        softmax_lse=torch.full((heads, sum(lens)), math.nan) if with_lse else None,
    )  # fmt: skip
    check_prefill(call, content)


def test_prefill_empty_request_and_empty_batch() -> None:
    check_prefill(*prefill_call([3, 0, 2]))
    check_prefill(*prefill_call([0]))
    check_prefill(*prefill_call([0, 0]))


def test_long_query_against_torch() -> None:
    """Tiled rows over a prefix, against torch's own attention with an explicit mask."""
    torch.manual_seed(2)
    query_len, context = 700, 1300
    call, content = prefill_call([query_len], [context], 6, 2, 64, 16, alpha=1.0)
    prefill_attention(**call)
    keys, values = (part.transpose(0, 1).repeat_interleave(3, 0) for part in content[0])
    mask = torch.ones(query_len, query_len + context).tril(context).bool()
    expected = torch.nn.functional.scaled_dot_product_attention(
        call["q"].transpose(0, 1), keys, values, attn_mask=mask
    )
    torch.testing.assert_close(call["out"].transpose(0, 1), expected, rtol=1e-5, atol=1e-5)


def merge_call(
    tokens: int, heads: int = 2, size: int = 8, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    parts = [torch.randn(tokens, heads, size).to(dtype) for _ in range(2)]
    lses = [torch.randn(heads, tokens) for _ in range(2)]
    return [
        parts[0], lses[0], parts[1], lses[1], torch.empty_like(parts[0]), torch.empty(heads, tokens)
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_merge_is_attention_over_both_sets(tokens: int, dtype: torch.dtype) -> None:
    call = merge_call(tokens, dtype=dtype)
    attention_merge_stage(*call)
    prefix, prefix_lse, suffix, suffix_lse = (each.double() for each in call[:4])
    weight = (prefix_lse - torch.logaddexp(prefix_lse, suffix_lse)).exp().T.unsqueeze(-1)
    expected = weight * prefix + (1 - weight) * suffix
    torch.testing.assert_close(call[4].double(), expected, **TOLERANCE[dtype])
    torch.testing.assert_close(call[5].double(), torch.logaddexp(prefix_lse, suffix_lse))


def test_merge_undoes_a_split_of_the_keys() -> None:
    """Attention over keys 0..5 and 6..8, merged, is attention over all of them."""
    q, k, v = torch.randn(4, 2, 16), torch.randn(9, 2, 16), torch.randn(9, 2, 16)
    whole, whole_lse = attend(q, k, v, 0.2, causal=False)
    halves = [attend(q, k[part], v[part], 0.2, causal=False) for part in (slice(6), slice(6, 9))]
    call = [each.float() for half in halves for each in half]
    call += [torch.empty_like(call[0]), torch.empty_like(call[1])]
    attention_merge_stage(*call)
    torch.testing.assert_close(call[4].double(), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(call[5].double(), whole_lse, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("empty", [-math.inf, math.inf])
def test_merge_with_an_empty_side(empty: float) -> None:
    call = merge_call(3)
    call[1][0], call[3][1] = empty, empty
    call[0][:, 0] = math.nan
    attention_merge_stage(*call)
    torch.testing.assert_close(call[4][:, 0], call[2][:, 0])
    torch.testing.assert_close(call[4][:, 1], call[0][:, 1])
    call[1].fill_(empty)
    call[3].fill_(empty)
    attention_merge_stage(*call)
    assert not call[4].any()
    assert call[5].isneginf().all()


def test_merge_into_its_own_input() -> None:
    call = merge_call(3)
    separate = list(call)
    attention_merge_stage(*separate)
    expected = call[4].clone()
    call[4] = call[0]
    attention_merge_stage(*call)
    torch.testing.assert_close(call[0], expected)


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
    call, _ = decode_call([6, 9])
    with pytest.raises(VendorContractError) as raised:
        speculative_attention(**call | {argument: change(call)})
    assert raised.value.function == "speculative_attention"
    # A number that contradicts a tensor is told of the tensor.
    told = {"max_context_len": "context_lens_cpu", "head_dim": "q", "block_size": "k_cache"}
    assert raised.value.argument == told.get(argument, argument)


def test_decode_refuses_after_a_call_that_was_right() -> None:
    """What is remembered of a step's lengths does not let wrong ones through."""
    call, _ = decode_call([5, 9])
    speculative_attention(**call)
    for lengths in (call["context_lens_xpu"].long(), call["context_lens_xpu"] + 1):
        with pytest.raises(VendorContractError, match="context_lens_xpu"):
            speculative_attention(**{**call, "context_lens_xpu": lengths})


def test_decode_refuses_a_head_size_the_card_has_not() -> None:
    call, _ = decode_call([6], size=40)
    with pytest.raises(VendorContractError, match="head_dim"):
        speculative_attention(**call)


def test_interleaved_cache_needs_doubled_pages() -> None:
    call, _ = decode_call([6, 9], interleaved=True)
    with pytest.raises(VendorContractError, match="block_tables"):
        speculative_attention(**call | {"block_tables": call["block_tables"] // 2 * 2 + 1})


def test_caches_must_be_dense_or_alternate() -> None:
    """Pages three apart: the doubled block table would read other memory."""
    call, _ = decode_call([6])
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
    call, _ = prefill_call([6, 3], [2, 0] if is_paged else None)
    with pytest.raises(VendorContractError) as raised:
        prefill_attention(**call | {argument: change(call)})
    assert (raised.value.function, raised.value.argument) == ("prefill_attention", argument)


@pytest.mark.parametrize(
    "argument", ["block_table", "context_kvlen_lod_cpu", "context_kvlen_lod_xpu"]
)
def test_prefill_on_cache_needs_table_and_lengths(argument: str) -> None:
    call, _ = prefill_call([6], [2])
    with pytest.raises(VendorContractError) as raised:
        prefill_attention(**call | {argument: None})
    assert raised.value.argument == argument


def test_prefill_on_tokens_takes_no_table() -> None:
    """Without ``is_prefix_cache`` a table or other key lengths would be ignored silently."""
    call, _ = prefill_call([6])
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
    call, _ = prefill_call([6, 3], [2, 0])
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
    call = merge_call(3)
    call[index] = change(call[index])
    with pytest.raises(VendorContractError) as raised:
        attention_merge_stage(*call)
    assert (raised.value.function, raised.value.argument) == ("attention_merge_stage", argument)
