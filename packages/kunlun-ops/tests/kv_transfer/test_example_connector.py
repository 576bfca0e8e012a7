# SPDX-License-Identifier: Apache-2.0
"""Tokens are taken out of pages and put into others; what one step does not read is not stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.distributed.kv_transfer.kv_connector.v1.example_connector import ExampleConnector

from vllm_kunlun.ops.kv_transfer import example_connector
from vllm_kunlun.ops.kv_transfer.example_connector import KunlunExampleConnector

PAGES, SIZE = 5, 4
SLOTS = torch.tensor([8, 9, 10, 11, 4, 5])
"""Of pages 2 and 1."""


@pytest.mark.parametrize(
    "shape", [(2, PAGES, 3, SIZE, 6), (PAGES, SIZE, 7)], ids=["keys-and-values", "latent"]
)
def test_tokens_keep_their_numbers(shape: tuple[int, ...]) -> None:
    source = torch.randn(shape)
    tokens = example_connector.tokens_of(source, SLOTS)
    for row, slot in enumerate(SLOTS.tolist()):
        page, offset = divmod(slot, SIZE)
        own = source[:, page, :, offset] if len(shape) == 5 else source[page, offset]
        assert torch.equal(tokens[row], own)
    elsewhere = torch.tensor([0, 1, 2, 3, 16, 17])
    target = torch.full(shape, -1.0)
    example_connector.put_tokens(target, elsewhere, tokens)
    assert torch.equal(example_connector.tokens_of(target, elsewhere), tokens)
    assert target.ne(-1).sum() == tokens.numel()


@dataclasses.dataclass
class New:
    req_id: str
    prompt_token_ids: list[int]
    num_computed_tokens: int = 0


@dataclasses.dataclass
class Step:
    scheduled_new_reqs: list[New]
    num_scheduled_tokens: dict[str, int]


@pytest.mark.parametrize(
    ("length", "computed", "expected"),
    [(1, 0, 0), (SIZE, 0, 0), (SIZE + 1, 0, SIZE), (2 * SIZE, 0, SIZE), (9, SIZE, SIZE), (9, 8, 0)],
)
def test_what_is_found_is_what_is_loaded(
    length: int, computed: int, expected: int, tmp_path: Path
) -> None:
    connector: Any = KunlunExampleConnector.__new__(KunlunExampleConnector)
    connector._block_size, connector._storage_path = SIZE, str(tmp_path)
    request = SimpleNamespace(prompt_token_ids=list(range(length)), mm_features=[])
    assert connector.get_num_new_matched_tokens(request, computed) == (0, False)
    stored = torch.arange(length)[: (length - 1) // SIZE * SIZE]
    connector._generate_foldername_debug(stored, [], create_folder=True)
    assert connector.get_num_new_matched_tokens(request, computed) == (expected, False)


def test_a_prompt_that_is_read_in_pieces_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last token of a prompt is not stored: of 9 tokens, 8 fill blocks of 4."""
    monkeypatch.setattr(
        ExampleConnector,
        "build_connector_meta",
        lambda self, step: [each.req_id for each in step.scheduled_new_reqs],
    )
    connector: Any = KunlunExampleConnector.__new__(KunlunExampleConnector)
    connector._block_size = SIZE
    connector._requests_need_load = {"loaded": None}
    tokens = list(range(9))
    step: Any = Step(
        [
            New("short", tokens[:SIZE]),
            New("whole", tokens),
            New("piece", tokens),
            New("cached", tokens, 4),
            New("loaded", tokens),
        ],
        {"short": SIZE, "whole": 8, "piece": 7, "cached": 4, "loaded": 1},
    )
    assert connector.build_connector_meta(step) == ["whole", "cached", "loaded"]
