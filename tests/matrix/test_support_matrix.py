# SPDX-License-Identifier: Apache-2.0
"""Every feature on every architecture that we name: writes ``support/matrix.json``.

``nox -s support`` runs it. Tokens are HF transformers', for quantised and adapted models those of
HF's model with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support import adapters, quantised, subjects, w8a8
from support.engine import greedy_with_logprobs
from support.engine_state import assert_split, drafts, watch_prompts
from support.features import FEATURES
from support.matrix import NotApplicable, NotTried
from support.subjects import NEW_TOKENS, Subject, VisionSubject
from vllm.lora.request import LoRARequest

from vllm_kunlun.platforms.families import family_for

pytestmark = pytest.mark.matrix

PIECE = 40
FUSED = "HF's class holds all experts in one tensor, and the tests quantise linear layers"


@pytest.fixture(scope="module", params=subjects.NAMES)
def subject(request, tmp_path_factory, prompts, matrix) -> Subject:
    made = subjects.make(request.param, tmp_path_factory.mktemp("model"), prompts[3:8])
    family = family_for(made.architecture)
    matrix.row(made.architecture, family and family.distribution, made.judge)
    return made


@pytest.mark.parametrize("feature", FEATURES)
def test_cell(feature, subject, matrix, tmp_path, monkeypatch):
    with matrix.cell(subject.architecture, feature):
        _TRIED[feature](subject, tmp_path, monkeypatch)


def _agree(subject: Subject, prompts: Sequence[Any], answers: list[list[int]]) -> None:
    _refuse(subject.differing(prompts, answers), len(answers))


def _equal(answers: list[list[int]], expected: list[list[int]]) -> None:
    _refuse(sum(a != e for a, e in zip(answers, expected, strict=True)), len(answers))


def _refuse(differing: int, answers: int) -> None:
    if differing:
        raise AssertionError(f"{differing} of {answers} answers differ from the judge's")


def _plain(**options: Any):
    def tried(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with subject.engine(**options) as llm:
            answers = subject.answers(llm, subject.prompts)
        _agree(subject, subject.prompts, answers)

    return tried


def _two_ranks(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    tried = _plain(tensor_parallel_size=2)
    tried(subject.for_two_ranks(folder), folder, monkeypatch)


def _prefix_cache(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = subject.longer(4)
    with subject.engine(enable_prefix_caching=True, disable_log_stats=False) as llm:
        first, second = (subject.answers(llm, prompts) for _ in range(2))
        hits = next(m.value for m in llm.get_metrics() if m.name == "vllm:prefix_cache_hits")
    _agree(subject, prompts, first)
    if second != first:  # the judge takes as long as the engine
        _agree(subject, prompts, second)
    assert hits > 0


def _lora(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = _base(subject)
    if "experts" in str(subject.reference.model):
        raise NotApplicable("adapters are for dense models")
    adapted = subject.judge_by(base)
    # Adapters are for the language model; an encoder has layers of the same names.
    part = "language_model" if isinstance(subject, VisionSubject) else ""
    adapter = adapters.write(
        adapted.model, folder / "a", adapters.ATTENTION, rank=8, alpha=16, part=part
    )
    if not adapter.matrices:
        raise NotTried(f"the tests write adapters for {', '.join(adapters.ATTENTION)} only")
    adapter.merge(adapted.model)
    requests = [LoRARequest("a", 1, str(adapter.folder)), None] * 3
    prompts = subject.requests(subject.prompts)
    with subject.engine(enable_lora=True, max_lora_rank=8) as llm:
        answers = greedy_with_logprobs(llm, prompts, NEW_TOKENS, requests[: len(prompts)])
    judges = [adapted, subject.reference] * 3
    _equal(
        [tokens for tokens, _ in answers],
        [judges[i].greedy(prompt, NEW_TOKENS) for i, prompt in enumerate(subject.prompts)],
    )


def _base(subject: Subject) -> Path:
    """The checkpoint that adapters and quantisers of the tests start from."""
    if subject.base is None:
        raise NotTried("the tests change checkpoints through HF's class, and transformers lacks it")
    return subject.base


def _kept(subject: Subject) -> list[str]:
    """Layers that quantisers leave in float: output, routers, and what sees pictures."""
    ends = (".gate", "_gate", ".router")
    seeing = ("model.visual.", "model.vision_tower.", "model.multi_modal_projector.")
    return ["lm_head"] + [
        name
        for name, module in subject.reference.model.named_modules()
        if isinstance(module, torch.nn.Linear) and (name.endswith(ends) or name.startswith(seeing))
    ]


def _has_fused_experts(subject: Subject) -> bool:
    """HF keeps all experts of a layer in one tensor, and the tests' quantisers know layers."""
    named = subject.reference.model.named_parameters()
    return any(value.dim() == 3 and "experts" in name for name, value in named)


def _w8a8(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held to the log-probabilities: a rounding that falls the other way may turn a token."""
    base = _base(subject)
    if _has_fused_experts(subject):
        raise NotTried(FUSED)
    kept = [name.removeprefix("model.") for name in _kept(subject)]
    # Of DeepSeek's kv_b_proj prefill rounds the input and decode does not: no formula has both.
    scheme = w8a8.Scheme(keep=("kv_b_proj", *kept))
    made = w8a8.quantise(base, folder / "w8a8", scheme)
    right, wrong = (
        subject.judge_by(w8a8.reference_model(base, made, scheme, quantise_activations=rounded))
        for rounded in (True, False)
    )
    for model in (right.model, wrong.model):
        for module in model.modules():
            if type(module).__name__ == "BloomGelu":  # HF's by tanh, vLLM's exact
                module.forward = torch.nn.functional.gelu
    with subject.engine(subject.served(made)) as llm:
        answers = subject.answers_with_logprobs(llm, subject.prompts)
    errors, effects = [], []
    for prompt, (tokens, logprobs) in zip(subject.prompts, answers, strict=True):
        came = torch.tensor(logprobs)
        errors.append((came - right.judge(prompt, tokens)[1]).abs())
        effects.append((came - wrong.judge(prompt, tokens)[1]).abs())
    error, effect = torch.cat(errors).mean().item(), torch.cat(effects).mean().item()
    assert error < 0.03 and error < effect / 5, f"log-probabilities {error:.4f} from the formula's"


def _w4a16(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = _base(subject)
    if _has_fused_experts(subject) and isinstance(subject, VisionSubject):
        raise NotTried(FUSED)
    scheme = quantised.Scheme(
        "compressed-tensors", group=-1, symmetric=True, skipped=tuple(_kept(subject))
    )
    packed, plain = quantised.write(base, folder, scheme)
    reference = subject.judge_by(plain)
    with subject.engine(subject.served(packed)) as llm:
        answers = subject.answers(llm, subject.prompts)
    _equal(answers, [reference.greedy(prompt, NEW_TOKENS) for prompt in subject.prompts])


def _speculation(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": 3}
    method |= {"num_speculative_tokens": 3}
    answered = []
    with subject.engine(speculative_config=method, disable_log_stats=False) as llm:
        prompts = subject.longer(3)
        for times in range(4, 10):
            answers = subject.answers(llm, prompts)
            answered.append((answers, prompts))
            proposed, accepted = drafts(llm)
            if accepted:
                break
            # A random model seldom says again what it has read: other prompts until it does.
            prompts = subject.after(answers, times)
    for answers, prompts in answered:
        _agree(subject, prompts, answers)
    if not accepted:
        raise AssertionError(f"of {proposed} drafted tokens none was accepted")


def _chunked(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = subject.longer(3)
    with subject.engine(enable_chunked_prefill=True, max_num_batched_tokens=PIECE) as llm:
        seen = watch_prompts(llm)
        answers = subject.answers(llm, prompts)
    _agree(subject, prompts, answers)
    assert_split(seen, PIECE)


_TRIED = {
    "eager": _plain(),
    "compiled": _plain(enforce_eager=False),
    "TP2": _two_ranks,
    "prefix cache": _prefix_cache,
    "chunked prefill": _chunked,
    "LoRA": _lora,
    "W8A8": _w8a8,
    "W4A16": _w4a16,
    "speculation": _speculation,
}
