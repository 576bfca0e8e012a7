# SPDX-License-Identifier: Apache-2.0
"""The output projection keeps clear of a kernel that is known to be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers import logits_processor, vocab_parallel_embedding

from vllm_kunlun.ops.layers import embedding, register_layers

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
