# SPDX-License-Identifier: Apache-2.0
"""What a judge answers, and what its modules compute on the way; HF transformers as the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_kunlun.cli import reference
from vllm_kunlun.cli.verify.locate import Theirs
from vllm_kunlun.cli.verify.measure import layer_names
from vllm_kunlun.cli.verify.trace import Event, record, recorded_attention, taken_rows
from vllm_kunlun.platforms.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HF", "Judge", "ask", "lacking"]

HF = "HF transformers"


@dataclass
class Judge:
    """What it is that judges, and what it said.

    Args:
        name: as the verdict calls it.
        answers: greedy tokens after each prompt.
        distributions: for each prompt, log-probabilities ``[tokens of its answer, vocabulary]``.
        expected: what each module was given and gave for the traced tokens.
        head: name of the output projection.
        layers: names of the decoder layers.
        model: transformers' model; None if the judge ran in another process.
        acts: in its place, what its weights do (:mod:`~vllm_kunlun.cli.verify.own_class.acting`).
    """

    name: str
    answers: list[list[int]]
    distributions: list[Tensor]
    expected: Theirs
    head: str
    layers: list[str]
    model: Any = None
    acts: dict[str, Tensor] = field(default_factory=dict)


def lacking(folder: Path, *, trust_remote_code: bool) -> str | None:
    """Why transformers has no class for the checkpoint; None if it has one."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=trust_remote_code
        )
    except (ImportError, KeyError, OSError, ValueError) as error:
        return _first_line(error)
    brought = getattr(config, "auto_map", None) or {}
    kinds = (
        transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
        transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )
    if any(type(config) in kind for kind in kinds) or "AutoModelForCausalLM" in brought:
        return None
    return f"it has no class for model_type {config.model_type!r}"


def ask(
    folder: Path,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    traced: Sequence[int],
    *,
    trust_remote_code: bool,
) -> Judge:
    """Load ``folder`` in float32 on the host, and let it answer ``prompts`` greedily.

    Raises:
        UnsupportedError: transformers cannot load it.
    """
    import torch

    model = _load(folder, trust_remote_code)
    answers = reference.continuations(model, prompts, max_tokens, whole=True)
    distributions, events = [], list[Event]()
    with torch.inference_mode():
        for prompt, answer in zip(prompts, answers, strict=True):
            logits = model(torch.tensor([[*prompt, *answer[:-1]]])).logits[0, len(prompt) - 1 :]
            distributions.append(logits.float().log_softmax(-1))
        handles = record(model, events, len(traced))
        with recorded_attention(model, events, len(traced)):
            logits = model(torch.tensor([list(traced)]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    names = {id(module): name for name, module in model.named_modules()}
    head = names[id(model.get_output_embeddings())]
    expected: Theirs = {}
    for event in events:
        expected.setdefault((event.module, event.what), event.tensors)
    expected[head, "logits"] = (taken_rows(logits.float(), len(traced))[-1:],)
    return Judge(HF, answers, distributions, expected, head, layer_names(model), model)


def _load(folder: Path, trust_remote_code: bool) -> Any:
    import torch
    import transformers

    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        sees = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind = (
            transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        )
        options |= {"dtype": torch.float32, "attn_implementation": "eager"}
        return kind.from_pretrained(folder, **options).eval()
    except (ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = _first_line(error)
        raise UnsupportedError(
            f"transformers cannot load {folder} to judge by ({reason}): name the "
            "checkpoint in floats that it was made of with --reference, or let vLLM's own class "
            "judge with --judge vllm."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
