# SPDX-License-Identifier: Apache-2.0
"""The card's own path, rehearsed, says what the judge says, in every token of every kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.engine import engine
from support.engine_state import drafts
from support.rehearsed import KINDS, NEW_TOKENS
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform

WAYS: dict[str, dict[str, Any]] = {
    "captured": {"enforce_eager": False},
    "eager": {},
    "captured-in-turn": {"enforce_eager": False, "async_scheduling": False},
}
"""A step ahead, but for the last: there a step waits for the tokens of the one before."""


def _tests() -> list[Any]:
    return [
        pytest.param(
            kind,
            way,
            id=f"{kind}-{way}",
            # A kind's case is made once by the worker that runs all of its ways.
            marks=[
                pytest.mark.xdist_group(kind),
                *([] if KINDS[kind].quick and way == "captured" else [pytest.mark.slow]),
            ],
        )
        for kind in KINDS
        for way in WAYS
    ]


@pytest.fixture
def replays(monkeypatch) -> list[object]:
    """The graphs that were replayed, in turn."""
    seen: list[object] = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        seen.append(graph)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    return seen


def _ask(llm: LLM, requests: list[Any], adapters: list[LoRARequest | None] | None) -> list[Any]:
    outputs = llm.generate(
        [each if isinstance(each, dict) else {"prompt_token_ids": each} for each in requests],
        SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False),
        use_tqdm=False,
        lora_request=adapters,
    )
    return list(outputs)


def _small(monkeypatch: pytest.MonkeyPatch, tokens: int) -> list[int]:
    """Let a context be read ``tokens`` at a time. Returns: how many chunks each step reads."""
    from vllm_kunlun.mla import flashmla, metadata

    read: list[int] = []
    context = metadata.FlashMLAMetadataBuilder._context

    def counted(builder: metadata.FlashMLAMetadataBuilder, part: Any) -> Any:
        chunks = context(builder, part)
        read.append(len(chunks))
        return chunks

    for module in (metadata, flashmla):
        monkeypatch.setattr(module, "context_capacity_tokens", lambda _: tokens)
    monkeypatch.setattr(metadata.FlashMLAMetadataBuilder, "_context", counted)
    return read


@pytest.mark.parametrize(("kind", "way"), _tests())
def test_every_token_is_the_judges(kind, way, case, monkeypatch, request):
    """Twice: the second time in another order, and so in other places of the same graphs."""
    assert current_platform.device_type == "cuda"
    replays = request.getfixturevalue("replays")  # once the platform has put the façade in place
    asked, serving, options = case(kind), KINDS[kind], WAYS[way]
    chunks = [] if serving.context_tokens is None else _small(monkeypatch, serving.context_tokens)
    adapters = None
    if asked.adapters is not None:
        numbers = {folder: number for number, folder in enumerate(set(asked.adapters) - {None}, 1)}
        adapters = [
            folder and LoRARequest(folder.name, numbers[folder], str(folder))
            for folder in asked.adapters
        ]
    settings = {**serving.options, **options}
    if asked.head is not None:
        settings["speculative_config"] = settings["speculative_config"] | {"model": str(asked.head)}
    with engine(asked.folder, **settings) as llm:
        config = llm.llm_engine.vllm_config
        ahead = serving.a_step_ahead and options.get("async_scheduling", True)
        assert config.scheduler_config.async_scheduling == ahead
        replays.clear()
        first = _ask(llm, asked.requests, adapters)
        again = _ask(llm, asked.requests[::-1], adapters and adapters[::-1])[::-1]
        proposed, accepted = drafts(llm) if serving.drafts else (1, 1)
    assert [list(each.outputs[0].token_ids) for each in first] == asked.expected
    assert [list(each.outputs[0].token_ids) for each in again] == asked.expected
    assert 0 < accepted <= proposed
    assert bool(replays) != options.get("enforce_eager", True)
    assert serving.context_tokens is None or max(chunks) > 1
    if serving.cached:
        assert sum(each.num_cached_tokens for each in again) > 0
