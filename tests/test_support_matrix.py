# SPDX-License-Identifier: Apache-2.0
"""Every feature on every architecture that we name: writes ``support/matrix.json``.

``nox -s support`` runs it. Tokens are HF transformers', for quantised and adapted models those of
HF's model with the same weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support import adapters, checkpoints, quantised, sparse, w8a8
from support.checkpoints import (
    CONFIGURATIONS,
    HYBRID_CONFIGURATIONS,
    MLA_CONFIGURATIONS,
    MOE_CONFIGURATIONS,
)
from support.engine import engine, greedy, greedy_with_logprobs
from support.matrix import FEATURES, NotApplicable, Row
from support.reference import Reference
from vllm.lora.request import LoRARequest

from vllm_kunlun.platforms.families import family_for

pytestmark = pytest.mark.matrix

NEW_TOKENS = 24
SPARSE = "deepseek-v32"
_TINY = {**CONFIGURATIONS, **MOE_CONFIGURATIONS, **MLA_CONFIGURATIONS, **HYBRID_CONFIGURATIONS}
_TWICE = {"qwen2-tied", "deepseek-v2-lite", "deepseek-v3-plain", "qwen3-next-long-blocks"}
MODELS = [*(name for name in _TINY if name not in _TWICE), SPARSE]


class Subject:
    """One tiny model and its judge."""

    def __init__(
        self, folder: Path, reference: Reference, prompts: Sequence[Sequence[int]]
    ) -> None:
        self.folder, self.reference, self.prompts = folder, reference, prompts
        self.expected = [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
        formulas = isinstance(reference, sparse.SparseReference)
        self.architecture = sparse.ARCHITECTURE if formulas else type(reference.model).__name__
        self.judge = "the paper's formulas" if formulas else "HF transformers"


@pytest.fixture(scope="module", params=MODELS)
def subject(request, tmp_path_factory, prompts, matrix) -> Subject:
    folder = tmp_path_factory.mktemp("model")
    if request.param == SPARSE:
        reference: Reference = sparse.SparseReference(sparse.write(folder, topk=24))
    else:
        reference = Reference(checkpoints.write(request.param, folder))
    made = Subject(folder, reference, prompts[3:8])
    family = family_for(made.architecture)
    row = matrix.rows.setdefault(made.architecture, Row(family=None, judge=made.judge))
    row.family, row.judge = family and family.distribution, made.judge
    return made


@pytest.mark.parametrize("feature", FEATURES)
def test_cell(feature, subject, matrix, tmp_path, monkeypatch):
    with matrix.cell(subject.architecture, feature):
        _TRIED[feature](subject, tmp_path, monkeypatch)


def _agree(answers: list[list[int]], expected: list[list[int]]) -> None:
    differing = sum(a != e for a, e in zip(answers, expected, strict=True))
    if differing:
        raise AssertionError(f"{differing} of {len(expected)} answers differ from the judge's")


def _plain(**options: Any):
    def tried(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with engine(subject.folder, **options) as llm:
            _agree(greedy(llm, subject.prompts, NEW_TOKENS), subject.expected)

    return tried


def _two_ranks(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a model whose heads divide by two, where the subject's do not."""
    config = copy.deepcopy(subject.reference.model.config)
    if config.num_attention_heads % 2 or getattr(config, "num_key_value_heads", 2) % 2:
        config.num_attention_heads, config.num_key_value_heads = 4, 2
        if not getattr(config, "head_dim", None):
            config.hidden_size = 128
        even = checkpoints.write_configuration(config, folder / "even")
        subject = Subject(even, Reference(even), subject.prompts)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    _plain(tensor_parallel_size=2)(subject, folder, monkeypatch)


def _prefix_cache(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"enable_prefix_caching": True, "disable_log_stats": False}
    with engine(subject.folder, **options) as llm:
        prompts = [prompt * 4 for prompt in subject.prompts]  # some are longer than a page
        first, second = (greedy(llm, prompts, NEW_TOKENS) for _ in range(2))
        hits = next(m.value for m in llm.get_metrics() if m.name == "vllm:prefix_cache_hits")
    expected = [subject.reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]
    _agree(first, expected)
    _agree(second, expected)
    assert hits > 0


def _lora(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "experts" in str(subject.reference.model):
        raise NotApplicable("adapters are for dense models")
    adapted = Reference(subject.folder)
    adapter = adapters.write(adapted.model, folder / "a", adapters.ATTENTION, rank=8, alpha=16)
    if not adapter.matrices:
        raise NotApplicable("its attention layers have other names")
    adapter.merge(adapted.model)
    requests = [LoRARequest("a", 1, str(adapter.folder)), None] * 3
    with engine(subject.folder, enable_lora=True, max_lora_rank=8) as llm:
        answers = greedy_with_logprobs(
            llm, subject.prompts, NEW_TOKENS, requests[: len(subject.prompts)]
        )
    judges = [adapted, subject.reference] * 3
    _agree(
        [tokens for tokens, _ in answers],
        [judges[i].greedy(prompt, NEW_TOKENS) for i, prompt in enumerate(subject.prompts)],
    )


def _routers(subject: Subject) -> list[str]:
    return [
        name
        for name, module in subject.reference.model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith((".gate", "_gate", ".router"))
    ]


def _w8a8(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held to the log-probabilities: a rounding that falls the other way may turn a token."""
    if isinstance(subject.reference, sparse.SparseReference):
        raise NotApplicable("the tiny quantiser knows no model that transformers has not")
    if any(p.dim() == 3 for p in subject.reference.model.parameters()):
        raise NotApplicable("the tiny quantiser knows layers, and HF has these experts in one")
    # Of DeepSeek's kv_b_proj prefill rounds the input and decode does not: no formula has both.
    scheme = w8a8.Scheme(keep=("lm_head", "kv_b_proj", *_routers(subject)))
    made = w8a8.quantise(subject.folder, folder / "w8a8", scheme)
    right, wrong = (
        Reference(w8a8.reference_model(subject.folder, made, scheme, quantise_activations=rounded))
        for rounded in (True, False)
    )
    for model in (right.model, wrong.model):
        for module in model.modules():
            if type(module).__name__ == "BloomGelu":  # HF's by tanh, vLLM's exact
                module.forward = torch.nn.functional.gelu
    with engine(made) as llm:
        answers = greedy_with_logprobs(llm, subject.prompts, NEW_TOKENS)
    errors, effects = [], []
    for prompt, (tokens, logprobs) in zip(subject.prompts, answers, strict=True):
        came = torch.tensor(logprobs)
        errors.append((came - right.judge(prompt, tokens)[1]).abs())
        effects.append((came - wrong.judge(prompt, tokens)[1]).abs())
    error, effect = torch.cat(errors).mean().item(), torch.cat(effects).mean().item()
    assert error < 0.03 and error < effect / 5, f"log-probabilities {error:.4f} from the formula's"


def _w4a16(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(subject.reference, sparse.SparseReference):
        raise NotApplicable("the tiny quantiser knows no model that transformers has not")
    scheme = quantised.Scheme(
        "compressed-tensors", group=-1, symmetric=True, skipped=("lm_head", *_routers(subject))
    )
    packed, plain = quantised.write(subject.folder, folder, scheme)
    reference = Reference(plain)
    with engine(packed) as llm:
        answers = greedy(llm, subject.prompts, NEW_TOKENS)
    _agree(answers, [reference.greedy(prompt, NEW_TOKENS) for prompt in subject.prompts])


def _speculation(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}
    prompts = [prompt * 3 for prompt in subject.prompts]
    with engine(subject.folder, speculative_config=method) as llm:
        answers = greedy(llm, prompts, NEW_TOKENS)
    _agree(answers, [subject.reference.greedy(prompt, NEW_TOKENS) for prompt in prompts])


_TRIED = {
    "eager": _plain(),
    "compiled": _plain(enforce_eager=False),
    "TP2": _two_ranks,
    "prefix cache": _prefix_cache,
    "chunked prefill": _plain(enable_chunked_prefill=True, max_num_batched_tokens=40),
    "LoRA": _lora,
    "W8A8": _w8a8,
    "W4A16": _w4a16,
    "speculation": _speculation,
}
