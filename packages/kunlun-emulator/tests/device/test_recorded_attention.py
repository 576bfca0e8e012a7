# SPDX-License-Identifier: Apache-2.0
"""Attention of recorded steps against the layer's implementation called for each, bit for bit."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vllm_kunlun.emulator.checks import VendorContractError
from vllm_kunlun.emulator.device import recorded_attention
from vllm_kunlun.emulator.device.recorded_attention import AttentionSteps
from vllm_kunlun.ops.attention.implementation import KunlunAttentionImpl
from vllm_kunlun.ops.attention.metadata import Decode, KunlunAttentionMetadata, Prefill
from vllm_kunlun.ops.vendor_ops import library

HEADS, KV_HEADS, SIZE, BLOCK, BLOCKS = 4, 2, 32, 16, 24
WIDTH = HEADS * SIZE
OP = SimpleNamespace(
    _schema=SimpleNamespace(
        name="vllm::unified_attention_with_output",
        arguments=[
            SimpleNamespace(name=name)
            for name in ("query", "key", "value", "output", "layer_name", "output_scale")
        ],
    )
)


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def int32(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def table_of(requests: int, first: int = 0) -> torch.Tensor:
    """Four pages each, of which none is another's."""
    return int32([[(first + 5 * row + page) % BLOCKS for page in range(4)]
                  for row in range(requests)])  # fmt: skip


def slots_of(table: torch.Tensor, row: int, positions: range) -> list[int]:
    return [int(table[row, each // BLOCK]) * BLOCK + each % BLOCK for each in positions]


def decodes(lengths: list[int], table: torch.Tensor, query_len: int = 1) -> KunlunAttentionMetadata:
    """Requests whose last ``query_len`` tokens are new."""
    slots = [
        slot
        for row, length in enumerate(lengths)
        for slot in slots_of(table, row, range(length - query_len, length))
    ]
    part = Decode(table[: len(lengths)], len(lengths), query_len, int32(lengths), int32(lengths))
    return KunlunAttentionMetadata(len(slots), torch.tensor(slots), True, part, None, None)


def prompt(tokens: int, table: torch.Tensor, before: int = 0) -> KunlunAttentionMetadata:
    """One request's first tokens, or some behind those that are in the cache."""
    slots = slots_of(table, 0, range(before, before + tokens))
    query, keys = int32([0, tokens]), int32([0, before + tokens])
    part = Prefill(table[:1], 0, tokens, query, query, keys, keys, before > 0)
    return KunlunAttentionMetadata(tokens, torch.tensor(slots), True, None, part, None)


class Engine:
    """Layers with caches, whose steps are recorded, and the same layers without."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tokens: int,
        dtype: torch.dtype = torch.float32,
        layers: int = 2,
        alternating: bool = False,
        **options: Any,
    ) -> None:
        self.tokens, self.dtype = tokens, dtype
        self.called = 0
        self.metadata: dict[str, KunlunAttentionMetadata] = {}
        self.names = [f"layer {number}" for number in range(layers)]
        self.packed = torch.zeros(tokens, WIDTH + 2 * KV_HEADS * SIZE, dtype=dtype)
        self.layers = {
            name: SimpleNamespace(impl=KunlunAttentionImpl(HEADS, SIZE, 0.3, KV_HEADS, **options))
            for name in self.names
        }
        for layer in self.layers.values():
            layer.impl.process_weights_after_loading(dtype)
        self.caches, self.expected_caches = (
            {name: _cache(dtype, alternating) for name in self.names} for _ in range(2)
        )
        self.out = {name: torch.empty(tokens, HEADS, SIZE, dtype=dtype) for name in self.names}
        steps = AttentionSteps()
        self.calls = [
            call
            for name in self.names
            for call in steps.layer(OP, partial(self._call, *self.given(), self.out[name], name))
        ]
        monkeypatch.setattr(
            recorded_attention,
            "attention_context",
            lambda name: (self.metadata[name], self.layers[name], self.caches[name]),
        )

    def given(self) -> list[torch.Tensor]:
        """Query in memory of its own, key and value as parts of one projection."""
        key, value = self.packed[:, WIDTH:].view(self.tokens, 2, KV_HEADS, SIZE).unbind(1)
        if not hasattr(self, "query"):
            self.query = torch.zeros(self.tokens, HEADS, SIZE, dtype=self.dtype)
        return [self.query, key, value]

    def _call(self, *given: Any) -> None:
        *given, out, name = given
        self.called += 1
        self._forward(name, self.caches, *given, out)

    def _forward(self, name: str, caches: Any, *given: torch.Tensor) -> None:
        *given_, out = given
        layer = self.layers[name]
        layer.impl.forward(layer, *given_, caches[name], self.metadata[name], output=out)

    def step(self, *metadata: KunlunAttentionMetadata) -> None:
        """One step of all layers, the metadata of each by turns, and what it has to give."""
        self.metadata = {
            name: metadata[number % len(metadata)] for number, name in enumerate(self.names)
        }
        self.query.copy_(torch.randn(self.query.shape))
        self.packed.copy_(torch.randn(self.packed.shape))
        expected = {name: torch.empty_like(self.out[name]) for name in self.names}
        for name in self.names:
            self._forward(name, self.expected_caches, *self.given(), expected[name])
        for call in self.calls:
            call()
        for name in self.names:
            assert torch.equal(self.out[name], expected[name]), name
            assert torch.equal(self.caches[name], self.expected_caches[name]), name


def _cache(dtype: torch.dtype, alternating: bool) -> torch.Tensor:
    page = (KV_HEADS, BLOCK, SIZE)
    if alternating:
        return torch.zeros(BLOCKS, 2, *page, dtype=dtype).transpose(0, 1)
    return torch.zeros(2, BLOCKS, *page, dtype=dtype)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Functions of the vendor that were looked up."""
    names: list[str] = []
    monkeypatch.setattr(
        # The package has a function of the module's name.
        importlib.import_module("vllm_kunlun.ops.vendor_ops.attention"),
        "function",
        lambda library_, name: names.append(name) or library.function(library_, name),
    )
    return names


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("options", [{}, {"sliding_window": 20}, {"sinks": torch.ones(HEADS)}],
                         ids=["plain", "window", "sinks"])  # fmt: skip
def test_steps_of_decodes_are_loops_alone(
    dtype: torch.dtype, tokens: int, options: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(monkeypatch, tokens, dtype, **options)
    table = table_of(tokens)
    for length in range(12, 20):
        engine.step(decodes([length + 9 * row for row in range(tokens)], table))
    assert engine.called == 0
    # Of the layers without recording in each step, and of those with in their first.
    assert asked.count("speculative_attention") == 2 * (8 + 1)


def test_other_steps_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording of so many tokens serves prompts and drafts of as many, too."""
    engine = Engine(monkeypatch, 4)
    table = table_of(4)
    for metadata, calls in (
        (prompt(4, table), 2),
        (decodes([5, 9, 30, 2], table), 0),
        (prompt(4, table, before=5), 2),
        (decodes([10, 10, 31, 3], table), 0),
        (decodes([12, 12], table, query_len=2), 2),
        (decodes([13, 13, 32, 4], table), 0),
    ):
        engine.called = 0
        engine.step(metadata)
        assert engine.called == calls


def test_layers_of_two_groups_with_pages_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, 2, layers=4)
    for length in range(5, 9):
        lengths = [length, length + 20]
        engine.step(decodes(lengths, table_of(2)), decodes(lengths, table_of(2, first=10)))
    assert engine.called == 0


@pytest.mark.parametrize(
    "options",
    [{"alternating": True}, {"logits_soft_cap": 5.0}],
    ids=["alternating pages", "soft cap"],
)
def test_what_is_more_than_loops_is_called(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of alternating pages, the table is computed anew in each step."""
    engine = Engine(monkeypatch, 2, **options)
    for length in range(5, 9):
        engine.step(decodes([length, 40], table_of(2, first=length)))
    assert engine.called >= 2 * 3


def test_a_connector_that_copies_the_cache_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_attention, "has_kv_transfer_group", lambda: True)
    engine = Engine(monkeypatch, 1)
    for length in range(5, 8):
        engine.step(decodes([length], table_of(1)))
    assert engine.called == 2 * 3


def test_a_cache_that_lies_elsewhere_and_a_wider_table(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, 1)
    for length in range(5, 8):
        engine.step(decodes([length], table_of(1)))
    old = dict(engine.caches)
    engine.caches = {name: each.clone() for name, each in old.items()}
    engine.step(decodes([8], table_of(1)))
    engine.step(decodes([9], table_of(1)))
    wide = torch.cat([table_of(1), table_of(1, first=4)], dim=1)
    for length in (10, 11):
        engine.step(decodes([length], wide))
    assert engine.called == 0


@pytest.mark.parametrize(
    ("argument", "spoil"),
    [
        ("slot_mapping", lambda step: step.slot_mapping.fill_(BLOCKS * BLOCK)),
        ("block_tables", lambda step: step.decode.block_table.fill_(BLOCKS)),
        ("context_lens_cpu", lambda step: [each.fill_(4 * BLOCK + 1) for each in
                                           (step.decode.seq_lens, step.decode.seq_lens_host)]),
        ("context_lens_xpu", lambda step: step.decode.seq_lens.add_(1)),
    ],
    ids=["slot", "page", "length", "copies"],
)  # fmt: skip
def test_values_that_the_card_would_misread_are_refused(
    argument: str, spoil: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(monkeypatch, 2)
    for length in (5, 6):
        engine.step(decodes([length, 30], table_of(2)))
    before = {name: each.clone() for name, each in engine.caches.items()}
    spoilt = decodes([7, 31], table_of(2))
    spoil(spoilt)
    engine.metadata = dict.fromkeys(engine.names, spoilt)
    for _ in range(2):
        with pytest.raises(VendorContractError, match=f"'{argument}'"):
            for call in engine.calls:
                call()
    assert all(torch.equal(each, before[name]) for name, each in engine.caches.items())
    engine.step(decodes([7, 31], table_of(2)))


def test_what_is_no_plain_attention_stays_as_it_is() -> None:
    x = torch.zeros(1, HEADS, SIZE)
    steps = AttentionSteps()
    call = partial(print, x, x, x, x, "layer")
    assert not steps.layer(None, call)
    other = SimpleNamespace(_schema=SimpleNamespace(name="vllm::unified_mla_attention"))
    assert not steps.layer(other, call)
    assert not steps.layer(OP, partial(call, output_scale=x)), "a quantised output"
    assert len(steps.layer(OP, call)) == 2, "and what begins a step"
    assert len(steps.layer(OP, call)) == 1
