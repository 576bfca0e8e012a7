# SPDX-License-Identifier: Apache-2.0
"""What vLLM's engine answers on this machine's device, and what its modules compute on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_kunlun.cli.verify.measure import generate
from vllm_kunlun.cli.verify.trace import Event, record

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Answer", "Traced", "answers", "trace"]


@dataclass(frozen=True)
class Answer:
    """Greedy tokens after a prompt, and the natural logarithm of each one's probability."""

    tokens: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class Traced:
    """The model, what its modules were given and gave, and the name of its output projection."""

    model: nn.Module
    events: list[Event]
    head: str


def answers(
    llm: Any, prompts: Sequence[Sequence[int]], max_tokens: int
) -> list[Answer]:  # fmt: skip
    """Of each prompt, asked alone."""
    found = []
    for prompt in prompts:
        made = generate(llm, prompt, max_tokens=max_tokens, logprobs=1)[0].outputs[0]
        steps = zip(made.token_ids, made.logprobs, strict=True)
        logprobs = [step[token].logprob for token, step in steps]
        found.append(Answer(list(made.token_ids), logprobs))
    return found


def trace(llm: Any, tokens: Sequence[int]) -> Traced:
    """One pass over ``tokens``; the engine must run in this process, uncompiled."""
    from vllm.model_executor.layers.logits_processor import LogitsProcessor

    from vllm_kunlun.platforms.vllm_compat.attention_layer import Attention

    models: list[nn.Module] = []
    llm.apply_model(models.append)
    model = models[0]
    events: list[Event] = []
    names = {id(each): name for name, each in model.named_modules(remove_duplicate=False)}
    heads: list[str] = []

    def logits(_module: nn.Module, inputs: Any, output: Any) -> None:
        heads.append(names[id(inputs[0])])
        events.append(Event(heads[-1], "logits", (output[-1:].detach().float().cpu(),)))

    handles = record(model, events, len(tokens), (Attention,))
    handles += [each.register_forward_hook(logits) for each in model.modules()
                if isinstance(each, LogitsProcessor)]  # fmt: skip
    generate(llm, tokens)
    for handle in handles:
        handle.remove()
    return Traced(model, events, heads[0] if heads else "")
