# SPDX-License-Identifier: Apache-2.0
"""What a rehearsed card is asked: a table of kinds, each with checkpoint, options and judge.

Nothing here needs vLLM. A kind is made, and its judge asked, in a process where no ``torch.cuda``
is rehearsed (:func:`plain_process`): the judge must be HF transformers as it is.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from support import adapters, checkpoints, draft_layer, drafters, quantised, sparse, vision, w8a8
from support.checkpoints import VOCABULARY
from support.reference import Reference

__all__ = ["KINDS", "NEW_TOKENS", "Case", "Kind", "make", "plain_process", "text_prompts"]

NEW_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """A checkpoint, what is asked of it, and what its judge answers."""

    folder: Path
    requests: Sequence[Any]
    """As the engine takes them: tokens, or a prompt with pictures."""
    expected: Sequence[list[int]]
    adapters: Sequence[Path | None] | None = None
    """The adapter of each request."""
    head: Path | None = None
    """The draft head, where it is a checkpoint of its own."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a case is made, and how vLLM is told to serve it."""

    make: Callable[[Path], Case]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    quick: bool = False
    """Captured, it is among the tests that every change is tried with."""
    context_tokens: int | None = None
    """Latent attention reads so much of a context at a time, where it would read all at once; at
    least a page for each request."""
    cached: bool = False
    """Asked again, it must find prefixes in the cache."""

    @property
    def drafts(self) -> bool:
        """Whether tokens are proposed before the model says them."""
        return "speculative_config" in self.options

    @property
    def a_step_ahead(self) -> bool:
        """Whether vLLM schedules a step before the last one's tokens are known: not by n-grams,
        and not where only what was accepted is drafted from."""
        speculation = self.options.get("speculative_config", {})
        return speculation.get("method") != "ngram" and (
            not speculation.get("disable_padded_drafter_batch")
        )


def text_prompts(*lengths: int) -> list[list[int]]:
    """Random prompts of the tiny vocabulary."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


_SHORT = (1, 2, 5, 16, 17, 33, 61)
_LONG = (1, 15, 64, 129, 200, 450)


def _judged(
    folder: Path, reference: Any, requests: Sequence[Any] | None = None, **more: Any
) -> Case:
    asked = text_prompts(*_SHORT) if requests is None else requests
    return Case(folder, asked, [reference.greedy(each, NEW_TOKENS) for each in asked], **more)


def _model(name: str, lengths: Sequence[int] = _SHORT) -> Callable[[Path], Case]:
    def made(folder: Path) -> Case:
        checkpoints.write(name, folder)
        return _judged(folder, Reference(folder), text_prompts(*lengths))

    return made


def _repetitive(folder: Path) -> Case:
    """Prompts in which n-grams come again, among others in which they do not."""
    checkpoints.write("qwen3", folder)
    asked = [prompt * (1 + 2 * (i % 2)) for i, prompt in enumerate(text_prompts(*_SHORT))]
    return _judged(folder, Reference(folder), asked)


def _sparse_with_a_draft_layer(folder: Path) -> Case:
    draft_layer.add(sparse.write(folder, topk=24, name="deepseek-v3-mixtures"))
    return _judged(folder, sparse.SparseReference(folder))


def _hybrid_with_a_draft_layer(folder: Path) -> Case:
    draft_layer.add_to_qwen3_next(checkpoints.write("qwen3-next", folder))
    return _judged(folder, Reference(folder))


def _with_a_head(folder: Path) -> Case:
    target = drafters.weaken(checkpoints.write("llama", folder))
    (folder / "head").mkdir()
    judged = _judged(target, Reference(target))
    return dataclasses.replace(judged, head=drafters.eagle(target, folder / "head"))


def _seeing(folder: Path) -> Case:
    vision.write("qwen2.5-vl", folder)
    judged = _judged(folder, vision.VisionReference(folder), vision.REQUESTS)
    return dataclasses.replace(judged, requests=[each.for_vllm() for each in vision.REQUESTS])


def _adapted(folder: Path) -> Case:
    """Each prompt for the base model, for one adapter and for another one."""
    checkpoints.write("qwen3", folder / "base")
    models = [Reference(folder / "base") for _ in range(3)]
    attention, mlp = adapters.ATTENTION, adapters.MLP
    written = [
        adapters.write(models[0].model, folder / "all", (*attention, *mlp), 8, 16, seed=1),
        adapters.write(models[0].model, folder / "some", ("q_proj", "down_proj"), 5, 9, seed=2),
    ]
    for reference, adapter in zip(models[1:], written, strict=True):
        adapter.merge(reference.model)
    prompts = text_prompts(1, 16, 33, 61)
    return Case(
        folder / "base",
        [prompt for prompt in prompts for _ in models],
        [reference.greedy(prompt, NEW_TOKENS) for prompt in prompts for reference in models],
        [None, *(adapter.folder for adapter in written)] * len(prompts),
    )


def _w8a8(folder: Path) -> Case:
    scheme = w8a8.Scheme()
    source = checkpoints.write("qwen2", folder / "source")
    served = w8a8.quantise(source, folder / "w8a8", scheme)
    return _judged(served, Reference(w8a8.reference_model(source, served, scheme)))


def _awq(folder: Path) -> Case:
    source = checkpoints.write("llama-even", folder / "source")
    packed, plain = quantised.write(source, folder, quantised.Scheme("awq", group=16))
    return _judged(packed, Reference(plain))


def _drafting(method: str, count: int, **more: Any) -> dict[str, Any]:
    speculation = {"method": method, "num_speculative_tokens": count, **more}
    return {"speculative_config": speculation, "disable_log_stats": False}


KINDS: dict[str, Kind] = {
    "dense": Kind(_model("qwen3"), quick=True),
    "moe": Kind(_model("qwen3-moe"), quick=True),
    "moe-sinks": Kind(_model("gpt-oss")),
    "mla": Kind(
        _model("deepseek-v3", _LONG),
        {
            "enable_chunked_prefill": True,
            "max_num_batched_tokens": 80,
            "max_num_seqs": 3,
            "max_model_len": 512,
        },
        quick=True,
        context_tokens=3 * 64,
        cached=True,
    ),
    "mla-sparse-drafts": Kind(_sparse_with_a_draft_layer, _drafting("mtp", 1)),
    "mla-sparse-more-drafts": Kind(_sparse_with_a_draft_layer, _drafting("mtp", 3)),
    "hybrid": Kind(_model("qwen3-next", (1, 5, 63, 64, 150)), quick=True),
    "hybrid-drafts": Kind(_hybrid_with_a_draft_layer, _drafting("mtp", 2)),
    # A compiled engine's cache stays in the process, so that a measured one would leave no memory.
    "vision": Kind(_seeing, {**vision.ENGINE, "kv_cache_memory_bytes": 64 * 2**20}),
    "lora": Kind(_adapted, {"enable_lora": True, "max_lora_rank": 8, "max_loras": 2}),
    "w8a8": Kind(_w8a8, quick=True),
    "awq": Kind(_awq),
    "eagle": Kind(_with_a_head, _drafting("eagle", 3)),
    "eagle-not-padded": Kind(
        _with_a_head, _drafting("eagle", 3, disable_padded_drafter_batch=True)
    ),
    "n-grams": Kind(
        _repetitive,
        _drafting("ngram", 3, prompt_lookup_min=1, prompt_lookup_max=3),
        quick=True,
    ),
}


def make(name: str, folder: Path) -> Case:
    """The case of the kind ``name``, its checkpoint written to ``folder``."""
    return KINDS[name].make(folder)


def plain_process() -> ProcessPoolExecutor:
    """A process in which nothing is rehearsed; vLLM, should it be asked for it, is emulated."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _emulated)


def _emulated() -> None:
    os.environ["VLLM_KUNLUN_DEVICE"] = "emulated"
