# SPDX-License-Identifier: Apache-2.0
"""The sparse indexer's functions, beside their conformance cases: by hand, in chunks, limits.

What is refused is in test_refusals.
"""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.emulator import kunlun_ops, xspeedgate_ops
from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.functions import indexer

WIDTH = 4


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def write(k: torch.Tensor, slots: list[int], blocks: int = 2, block_size: int = 2) -> torch.Tensor:
    cache = torch.full((blocks, block_size, WIDTH + 4), 9, dtype=torch.uint8)
    xspeedgate_ops.indexer_k_quant_and_cache(k, cache, torch.tensor(slots), WIDTH, "ue8m0")
    return cache


def test_a_key_in_the_cache_by_hand() -> None:
    """Slot 3 is the second of block 1: its values behind 4 bytes, its scale behind 8 + 4."""
    cache = write(torch.tensor([[127.0, -254.0, 1.0, 0.0]]), [3])
    row = cache[1].flatten()
    assert row[4:8].view(torch.int8).tolist() == [64, -127, 0, 0]  # 63.5 and 0.5 go to even
    assert row[12:].view(torch.float32).item() == 2.0
    row[4:8], row[12:] = 9, 9
    assert (cache == 9).all(), "another slot was written"


def test_a_key_of_zeros_has_scale_0() -> None:
    cache = write(torch.zeros(1, WIDTH), [0])
    assert cache[0].flatten()[:4].tolist() == [0] * 4
    assert cache[0].flatten()[8:12].view(torch.float32).item() == 0.0


def test_what_was_written_is_gathered() -> None:
    """Request 0 has slots 2, 3 and 0 by its pages, request 1 none, request 2 slot 4."""
    k = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [-1, -2, -3, -4]])
    cache = write(k, [2, 3, 0, 4], blocks=3)
    dst_k = torch.full((5, WIDTH), 99, dtype=torch.int8)
    dst_scale = torch.full((5, 4), 99, dtype=torch.uint8)
    xspeedgate_ops.cp_gather_indexer_k_quant_cache(
        kv_cache=cache, dst_k=dst_k, dst_scale=dst_scale,
        block_table=torch.tensor([[1, 0], [7, 7], [2, 7]], dtype=torch.int32),
        cu_seq_lens=ints(0, 3, 3, 4),
    )  # fmt: skip
    scale = dst_scale[:4].view(torch.float32)
    torch.testing.assert_close(scale, k.abs().amax(-1, keepdim=True) / 127)
    torch.testing.assert_close(dst_k[:4] * scale, k, rtol=0, atol=0.05)
    assert (dst_k[4] == 99).all()
    assert (dst_scale[4] == 99).all()


def logits_of(rows: int, columns: int, heads: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """What comes, and the formula in float64."""
    random = torch.Generator().manual_seed(rows)

    def int8(*shape: int) -> torch.Tensor:
        return torch.randint(-127, 128, shape, generator=random, dtype=torch.int8)

    q, key = int8(rows, heads, WIDTH), int8(columns, WIDTH)
    weights = torch.randn(rows, heads, generator=random)
    scale = torch.rand(columns, 1, generator=random)
    logits = torch.full((rows, columns), torch.nan)
    lods = [(ints(0, count), ints(0, count)) for count in (rows, columns)]
    kunlun_ops.I8_mqa_logits(
        q=q, fused_kv_cache=(key, scale), weights=weights, context_q_lens=lods[0],
        context_k_lens=lods[1], logits=logits,
    )  # fmt: skip
    products = torch.einsum("mhd,nd->mhn", q.double(), key.double()).relu()
    return logits, torch.einsum("mh,mhn->mn", weights.double(), products) * scale.T.double()


def test_logits_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows at a time of seven: the last chunk is shorter."""
    monkeypatch.setattr(indexer, "CHUNK_ELEMENTS", 2 * 3 * 11)
    came, expected = logits_of(7, 11)
    torch.testing.assert_close(came.double(), expected, rtol=1e-5, atol=1e-3)


def test_keys_wider_than_float32_sums_exactly() -> None:
    q = torch.zeros(1, 1, indexer.EXACT_WIDTH + 1, dtype=torch.int8)
    with pytest.raises(VendorContractError, match="width up to 1024"):
        kunlun_ops.I8_mqa_logits(
            q=q, fused_kv_cache=(q[0], torch.ones(1, 1)), weights=torch.ones(1, 1),
            context_q_lens=(ints(0, 1), ints(0, 1)), context_k_lens=(ints(0, 1), ints(0, 1)),
            logits=torch.empty(1, 1),
        )  # fmt: skip


def test_mask_by_hand() -> None:
    logits = torch.zeros(3, 4)
    xspeedgate_ops.mask_for_I8_mqa_logits(
        seq_len_kv=4, cu_seqlen_ks=ints(0, 1, 4), cu_seqlen_ke=ints(4, 3, 4), logits=logits
    )
    hidden = logits.isinf().int().tolist()
    assert hidden == [[0, 0, 0, 0], [1, 0, 0, 1], [1, 1, 1, 1]]


def top(logits: torch.Tensor, count: int, **bounds: object) -> list[list[int]]:
    found = torch.full((len(logits), count), 77, dtype=torch.int32)
    given = {"rowStarts": None, "rowEnds": None, "seqLens": None, "next_n": None, **bounds}
    xspeedgate_ops.topk_per_row(
        logits=logits, srcIndices=found, numRows=len(logits), stride0=logits.stride(0),
        stride1=logits.stride(1), topK=count, **given,
    )  # fmt: skip
    return [sorted(row) for row in found.tolist()]


def test_best_positions_count_from_the_rows_start() -> None:
    logits = torch.tensor([[9.0, 1.0, 2.0, 3.0]]).expand(3, -1).contiguous()
    found = top(logits, 2, rowStarts=ints(0, 1, 2), rowEnds=ints(4, 4, 3))
    assert found == [[0, 3], [1, 2], [-1, 0]]


def test_more_positions_than_columns_are_filled_up() -> None:
    assert top(torch.zeros(1, 2), 4, rowStarts=ints(0), rowEnds=ints(2)) == [[-1, -1, 0, 1]]


def test_each_draft_sees_one_more_position() -> None:
    """Two queries of a request of 3 tokens: the first sees 2 of them, the second all."""
    logits = torch.tensor([[0.0, 1.0, 2.0, 9.0]]).expand(2, -1).contiguous()
    assert top(logits, 1, seqLens=ints(3), next_n=2) == [[1], [2]]


def test_paged_logits_equal_packed_ones() -> None:
    """Pages of 2 keys handed out of order; past a request's length nothing is read."""
    random = torch.Generator().manual_seed(3)
    pages = torch.randint(-127, 128, (4, 2, 1, WIDTH), generator=random, dtype=torch.int8)
    q = torch.randint(-127, 128, (2, 1, 3, WIDTH), generator=random, dtype=torch.int8)
    weights = torch.randn(2, 1, 3, generator=random)
    scale = torch.rand(2, 6, generator=random)
    table = torch.tensor([[3, 0, 99], [1, -5, 99]], dtype=torch.int32)
    lengths, out = ints(3, 2), torch.full((2, 1, 6), torch.nan)
    kunlun_ops.I8_paged_mqa_logits(
        q=q, fused_kv_cache=[pages, scale], weights=weights,
        context_lens=[lengths, lengths.clone()], block_table=table, max_context_len=6,
        clean_logits=True, out=out,
    )  # fmt: skip
    for request, length in enumerate(lengths.tolist()):
        keys = pages[table[request, : -(-length // 2)].long(), :, 0].flatten(0, 1)[:length]
        products = (q[request, 0].double() @ keys.double().T).relu()
        expected = weights[request].double() @ products * scale[request, :length].double()
        torch.testing.assert_close(out[request, :, :length].double(), expected)
        assert (out[request, :, length:] == -torch.inf).all()
