# SPDX-License-Identifier: Apache-2.0
"""The models of the support matrix: a tiny checkpoint each, its judge, and what it is asked."""

from __future__ import annotations

import copy
import dataclasses
import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support import checkpoints, internlm, mimo, sparse, vision
from support.checkpoints import (
    CONFIGURATIONS,
    HYBRID_CONFIGURATIONS,
    MLA_CONFIGURATIONS,
    MOE_CONFIGURATIONS,
)
from support.engine import engine, greedy_with_logprobs
from support.reference import Reference
from support.w8a8 import float_model
from vllm import LLM

__all__ = ["NAMES", "NEW_TOKENS", "Subject", "VisionSubject", "make"]

NEW_TOKENS = 24


@dataclasses.dataclass
class Subject:
    """A model of text."""

    folder: Path
    reference: Any
    architecture: str
    prompts: Sequence[Any]
    judge: str = "HF transformers"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """For the engine, whatever is tried."""
    base: Path | None = None
    """A checkpoint that HF reads and tools can change; None if there is none."""
    renamed: Callable[[Path], Path] | None = None
    """Turns a changed ``base``, in place, into a checkpoint of the architecture."""

    def engine(self, folder: Path | None = None, **options: Any) -> Any:
        return engine(folder or self.folder, **self.options, **options)

    def served(self, changed: Path) -> Path:
        """A changed copy of :attr:`base`, as the engine reads it."""
        return self.renamed(changed) if self.renamed else changed

    def judge_by(self, model: Any) -> Any:
        """A reference by another model of HF's: one that is made, or a folder."""
        return Reference(model)

    def answers(self, llm: LLM, prompts: Sequence[Any]) -> list[list[int]]:
        return [tokens for tokens, _ in self.answers_with_logprobs(llm, prompts)]

    def answers_with_logprobs(
        self, llm: LLM, prompts: Sequence[Any]
    ) -> list[tuple[list[int], list[float]]]:
        return greedy_with_logprobs(llm, self.requests(prompts), NEW_TOKENS)

    def requests(self, prompts: Sequence[Any]) -> list[Any]:
        """The prompts as the engine takes them."""
        return list(prompts)

    def expected(self, prompts: Sequence[Any]) -> list[list[int]]:
        return [self.reference.greedy(prompt, NEW_TOKENS) for prompt in prompts]

    @functools.cached_property
    def judged(self) -> list[list[int]]:
        """What is expected of :attr:`prompts`."""
        return self.expected(self.prompts)

    def differing(self, prompts: Sequence[Any], answers: Sequence[list[int]]) -> int:
        """How many of ``answers`` are not the judge's."""
        expected = self.judged if prompts is self.prompts else self.expected(prompts)
        return sum(a != e for a, e in zip(answers, expected, strict=True))

    def longer(self, times: int) -> list[Any]:
        """The prompts, each said several times: some are longer than a page then."""
        return [prompt * times for prompt in self.prompts]

    def after(self, answers: Sequence[list[int]], times: int) -> list[Any]:
        """Other prompts, in which n-grams of such an answer are likelier than by chance."""
        return [answer + prompt for answer, prompt in zip(answers, self.longer(3), strict=True)]

    def for_two_ranks(self, folder: Path) -> Subject:
        """The subject, or one whose heads divide by two."""
        if self.base is None or self.renamed:
            return self
        config = copy.deepcopy(self.reference.model.config)
        if not (config.num_attention_heads % 2 or getattr(config, "num_key_value_heads", 2) % 2):
            return self
        config.num_attention_heads, config.num_key_value_heads = 4, 2
        if not getattr(config, "head_dim", None):
            config.hidden_size = 128
        even = checkpoints.write_configuration(config, folder / "even")
        return dataclasses.replace(self, folder=even, base=even, reference=Reference(even))


class SparseSubject(Subject):
    """A model whose queries attend chosen keys, of which rounding may choose one for another."""

    EDGES = 2
    """Places, of all answers, at which that may turn a token (:func:`sparse.assert_agrees`)."""

    def differing(self, prompts: Sequence[Any], answers: Sequence[list[int]]) -> int:
        differ = [
            sum(
                a != b for a, b in zip(tokens, self.reference.judge(prompt, tokens)[0], strict=True)
            )
            for prompt, tokens in zip(prompts, answers, strict=True)
        ]
        return sum(map(bool, differ)) if sum(differ) > self.EDGES else 0


class VisionSubject(Subject):
    """A model of text, images and video, asked by :class:`vision.Request`."""

    def judge_by(self, model: Any) -> Any:
        made = float_model(model) if isinstance(model, Path) else model
        return vision.VisionReference(self.folder, made)

    def requests(self, prompts: Sequence[Any]) -> list[Any]:
        return [each.for_vllm() for each in prompts]

    def after(self, answers: Sequence[list[int]], times: int) -> list[Any]:
        return self.longer(times)  # tokens cannot be put before a picture's text

    def for_two_ranks(self, folder: Path) -> Subject:
        return self

    def longer(self, times: int) -> list[Any]:
        return [
            dataclasses.replace(each, prompt=each.prompt + " Once more: tell me." * times)
            for each in self.prompts
        ]


def _plain(name: str) -> Callable[[Path, Sequence[list[int]]], Subject]:
    def made(folder: Path, prompts: Sequence[list[int]]) -> Subject:
        reference = Reference(checkpoints.write(name, folder))
        return Subject(folder, reference, type(reference.model).__name__, prompts, base=folder)

    return made


def _sparse(folder: Path, prompts: Sequence[list[int]]) -> Subject:
    reference = sparse.SparseReference(sparse.write(folder, topk=24))
    return SparseSubject(folder, reference, sparse.ARCHITECTURE, prompts, "the paper's formulas")


_REMOTE = {"trust_remote_code": True}


def _internlm2(folder: Path, prompts: Sequence[list[int]]) -> Subject:
    llama, made = internlm.write_pair(folder)
    judge = "HF's Llama with the same weights"
    return Subject(made, Reference(llama), "InternLM2ForCausalLM", prompts, judge, _REMOTE)


def _mimo(folder: Path, prompts: Sequence[list[int]]) -> Subject:
    base = checkpoints.write("qwen2", folder / "qwen2")
    made = mimo.of_qwen2(Path(shutil.copytree(base, folder / "mimo")))
    judge = "HF's Qwen2 with the same weights"
    return Subject(
        made, Reference(base), "MiMoForCausalLM", prompts, judge, _REMOTE, base, mimo.of_qwen2
    )


def _mimo_v2_flash(folder: Path, prompts: Sequence[list[int]]) -> Subject:
    reference = mimo.MimoReference(mimo.write(folder))
    judge = "its formulas in float64"
    return Subject(folder, reference, "MiMoV2FlashForCausalLM", prompts, judge, _REMOTE)


def _vision(name: str) -> Callable[[Path, Sequence[list[int]]], Subject]:
    def made(folder: Path, prompts: Sequence[list[int]]) -> Subject:
        reference = vision.VisionReference(vision.write(name, folder))
        requests = [request.placed(name) for request in vision.REQUESTS]
        architecture = type(reference.model).__name__
        return VisionSubject(
            folder, reference, architecture, requests, options=vision.ENGINE, base=folder
        )

    return made


_TWICE = {"qwen2-tied", "deepseek-v2-lite", "deepseek-v3-plain", "qwen3-next-long-blocks"}
_MAKERS = {
    **{
        name: _plain(name)
        for tables in (
            CONFIGURATIONS,
            MOE_CONFIGURATIONS,
            MLA_CONFIGURATIONS,
            HYBRID_CONFIGURATIONS,
        )
        for name in tables
        if name not in _TWICE
    },
    "deepseek-v32": _sparse,
    "internlm2": _internlm2,
    "mimo": _mimo,
    "mimo-v2-flash": _mimo_v2_flash,
    **{name: _vision(name) for name in vision.CONFIGURATIONS},
}
NAMES = tuple(_MAKERS)


def make(name: str, folder: Path, prompts: Sequence[list[int]]) -> Subject:
    """The subject ``name``, written to ``folder``; ``prompts`` are those of a model of text."""
    return _MAKERS[name](folder, prompts)
