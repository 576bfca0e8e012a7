# SPDX-License-Identifier: Apache-2.0
"""The vocabulary: rows over ranks, and a projection that keeps clear of a wrong kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.layer_pairs import replaced_and_own
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers import logits_processor, vocab_parallel_embedding

from vllm_kunlun.ops.layers import LAYERS, embedding, register_layers

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    register_layers()
    with set_current_vllm_config(VllmConfig()):
        yield


def close(came: torch.Tensor, exact: torch.Tensor) -> None:
    tolerance = TOLERANCES[came.dtype]
    torch.testing.assert_close(came.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    module = vocab_parallel_embedding
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)
    monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 0)
    # One rank has nothing to gather; without a process group vLLM's would look for one.
    monkeypatch.setattr(logits_processor, "tensor_model_parallel_all_gather", lambda rows: rows)
    monkeypatch.setattr(logits_processor, "tensor_model_parallel_gather", lambda rows: rows)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of the weight in each product."""
    seen: list[int] = []
    linear = torch.nn.functional.linear

    def watched(x: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
        seen.append(weight.shape[0])
        return linear(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    return seen


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MAX_FLOAT16_ROWS", 100)


def projection(kind: Any, rows: int, dtype: torch.dtype) -> Any:
    layer = kind(rows, 8, params_dtype=dtype)
    torch.nn.init.normal_(layer.weight)
    return layer


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize("kind", ["VocabParallelEmbedding", "ParallelLMHead"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("dtype", "rows", "parts"),
    [
        (torch.float16, 64, [64]),
        (torch.float16, 192, [96, 96]),
        (torch.float16, 256, [86, 85, 85]),
        (torch.bfloat16, 256, [256]),
        (torch.float32, 256, [256]),
    ],
    ids=str,
)
def test_projection_in_float16_stays_below_the_rows_that_go_wrong(
    kind: str, bias: bool, dtype: torch.dtype, rows: int, parts: list[int], products: list[int]
) -> None:
    layer = projection(getattr(vocab_parallel_embedding, kind), rows, dtype)
    added = torch.randn(rows).to(dtype) if bias else None
    x = torch.randn(5, 8).to(dtype)
    logits = logits_processor.LogitsProcessor(rows - 1, scale=0.5)(layer, x, added)
    assert products == parts
    exact = x.double() @ layer.weight.double().T
    exact = 0.5 * (exact if added is None else exact + added.double())[:, : rows - 1]
    close(logits, exact)


@pytest.mark.usefixtures("low_limit")
def test_projection_that_shares_the_embedding(products: list[int]) -> None:
    table = projection(vocab_parallel_embedding.VocabParallelEmbedding, 256, torch.float16)
    head = projection(vocab_parallel_embedding.ParallelLMHead, 256, torch.float16)
    head = head.tie_weights(table)
    x = torch.randn(5, 8).half()
    expected = x.double() @ table.weight.double().T
    close(logits_processor.LogitsProcessor(256)(head, x), expected)
    assert products == [86, 85, 85]
    ids = torch.tensor([0, 255, 7])
    assert torch.equal(table(ids), table.weight[ids])


def test_the_vocabulary_that_went_wrong_is_split(products: list[int]) -> None:
    head = projection(vocab_parallel_embedding.ParallelLMHead, 248_320, torch.float16)
    x = torch.randn(1, 8).half()
    logits = logits_processor.LogitsProcessor(248_320)(head, x)
    close(logits, x.double() @ head.weight.double().T)
    assert products == [124_160, 124_160]


VOCABULARY, HIDDEN, ADDED = 100, 6, 8
"""100 rows are no multiple of the padding, so that every boundary of the mask occurs."""


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_embedding_over_ranks_is_a_lookup_in_the_whole_table(
    ranks: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one rank vLLM looks a token up as it is: no second part there.
    total = VOCABULARY + (ADDED if ranks > 1 else 0)
    table = torch.randn(total, HIDDEN)
    ids = torch.cat([torch.arange(total), torch.randint(total, (20,))]).to(dtype)
    module = vocab_parallel_embedding
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: ranks)
    for owner in (module, embedding):
        monkeypatch.setattr(owner, "tensor_model_parallel_all_reduce", lambda rows: rows)
    parts = []
    for rank in range(ranks):
        monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda rank=rank: rank)

        def build() -> Any:
            return module.VocabParallelEmbedding(
                total, HIDDEN, org_num_embeddings=VOCABULARY, padding_size=8 * ranks
            )

        ours, theirs = replaced_and_own(build)
        for layer in (ours, theirs):
            _load(layer, table)
        part = ours(ids)
        own = theirs.forward_native if hasattr(theirs, "forward_native") else theirs.forward
        assert torch.equal(part, own(ids.long()))
        parts.append(part)
    expected = torch.nn.functional.embedding(ids.long(), table)
    assert torch.equal(torch.stack(parts).sum(0), expected)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_call_of_vllms_class_is_answered_by_ours(
    ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that replaces the class as a whole dispatches to no ``forward_oot``."""
    module = vocab_parallel_embedding
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: ranks)
    monkeypatch.setattr(embedding, "tensor_model_parallel_all_reduce", lambda rows: rows)
    masked: list[int] = []
    mask_input = embedding.mask_input

    def watched(ids: torch.Tensor, *bounds: int) -> tuple[torch.Tensor, torch.Tensor]:
        masked.append(ids.numel())
        return mask_input(ids, *bounds)

    monkeypatch.setattr(embedding, "mask_input", watched)
    layer = module.VocabParallelEmbedding(64, HIDDEN)
    assert type(layer).forward is embedding.KunlunVocabParallelEmbedding.forward
    layer(torch.arange(5))
    assert masked == ([5] if ranks > 1 else [])


@pytest.mark.parametrize("own_group", [False, True])
def test_the_sum_over_ranks_is_the_callers_or_a_groups_own(
    own_group: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = vocab_parallel_embedding
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 2)
    monkeypatch.setattr(embedding, "tensor_model_parallel_all_reduce", lambda rows: rows + 1)
    layer = module.VocabParallelEmbedding(64, HIDDEN)
    torch.nn.init.ones_(layer.weight)
    if own_group:
        layer.parallel_group = SimpleNamespace(all_reduce=lambda rows: rows + 2)
    assert (layer(torch.arange(3)) == (3 if own_group else 2)).all()
    layer.reduce_results = False
    assert (layer(torch.arange(3)) == 1).all()


def _load(layer: Any, table: torch.Tensor) -> None:
    """Put the rank's rows of ``table`` where the layer's shard indices say."""
    shard = layer.shard_indices
    with torch.no_grad():
        layer.weight.fill_(math.nan)
        org = table[shard.org_vocab_start_index : shard.org_vocab_end_index]
        layer.weight[: len(org)] = org
        added = table[shard.added_vocab_start_index : shard.added_vocab_end_index]
        first = len(org) + shard.num_org_vocab_padding
        layer.weight[first : first + len(added)] = added
        layer.weight[0].nan_to_num_()


def test_output_projection_is_not_callable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = vocab_parallel_embedding
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)
    monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: 0)
    layer = module.ParallelLMHead(32, 8)
    assert type(layer) is LAYERS["ParallelLMHead"]
    with pytest.raises(RuntimeError):
        layer(torch.zeros(1, dtype=torch.long))
