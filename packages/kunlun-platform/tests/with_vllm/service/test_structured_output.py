# SPDX-License-Identifier: Apache-2.0
"""Grammars in the engine: a backend for each name, and a failure that ends one text alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import vllm_kunlun.platforms.service.structured_output as ours
from vllm_kunlun.platforms.ledger import patch_ledger

EOS = 2


class Backend:
    def __init__(self, name: str) -> None:
        self.name = name

    def compile_grammar(self, kind: str, text: str) -> str:
        if text == "bad":
            raise RuntimeError("parser error")
        return f"{self.name}:{kind}:{text}"


class Manager:
    """As vLLM's: makes its backend once, and compiles in another thread."""

    def __init__(self) -> None:
        self.backend: Any = None
        self.tokenizer = SimpleNamespace(eos_token_id=EOS)
        self.executor = ThreadPoolExecutor(2)
        self.made: list[str] = []

    def grammar_init(self, request: Any) -> None:
        if self.backend is None:
            self.backend = Backend(request.sampling_params.structured_outputs._backend)
            self.made.append(self.backend.name)
        future = self.executor.submit(ours.create_grammar, self, request)
        request.structured_output_request.grammar = future


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Manager:
    originals = {"backend-of-each-grammar": Manager.grammar_init}
    monkeypatch.setattr(patch_ledger, "original", originals.__getitem__)
    return Manager()


def compiled(manager: Manager, backend: str, text: str) -> Any:
    params = SimpleNamespace(_backend=backend)
    asked = SimpleNamespace(params=params, structured_output_key=("regex", text), grammar=None)
    request = SimpleNamespace(
        request_id="one", structured_output_request=asked,
        sampling_params=SimpleNamespace(structured_outputs=params),
    )  # fmt: skip
    ours.grammar_init(manager, request)
    return asked.grammar


def test_each_is_compiled_by_its_own_backend(manager: Manager) -> None:
    names = [("xgrammar", "guidance")[number % 3 == 1] for number in range(200)]
    futures = [compiled(manager, name, str(i)) for i, name in enumerate(names)]
    assert [f.result() for f in futures] == [f"{n}:regex:{i}" for i, n in enumerate(names)]
    assert manager.made == ["xgrammar", "guidance"]


def test_a_failure_is_a_text_of_nothing(manager: Manager) -> None:
    grammar = compiled(manager, "xgrammar", "bad").result()
    assert isinstance(grammar, ours.NoTokens)
    assert compiled(manager, "xgrammar", "good").result() == "xgrammar:regex:good"


@pytest.mark.parametrize("token", [0, 30, 31, 32, 95])
def test_its_mask_allows_the_end_alone(token: int) -> None:
    mask = torch.full((2, 3), -1, dtype=torch.int32)
    grammar = ours.NoTokens(token)
    grammar.fill_bitmask(mask, 1)
    allowed = [i for i in range(96) if mask[1, i // 32].item() >> i % 32 & 1]
    assert allowed == [token]
    assert (mask[0] == -1).all()


def test_it_takes_the_end_alone() -> None:
    grammar = ours.NoTokens(EOS)
    assert grammar.accept_tokens("one", [EOS]) and not grammar.accept_tokens("one", [5])
    assert grammar.validate_tokens([EOS, 5]) == [EOS] and grammar.validate_tokens([5, EOS]) == []
    assert not grammar.is_terminated()


def test_a_request_without_a_grammar_needs_no_backend(manager: Manager) -> None:
    ours.grammar_init(manager, SimpleNamespace(structured_output_request=None))
    assert manager.backend is None
