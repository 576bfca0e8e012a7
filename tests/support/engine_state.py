# SPDX-License-Identifier: Apache-2.0
"""What an engine did besides answering: drafts that it checked, steps that a prompt took."""

from __future__ import annotations

from typing import Any

from vllm import LLM

__all__ = ["assert_split", "drafts", "watch_prompts"]


def drafts(llm: LLM) -> tuple[int, int]:
    """Drafted tokens proposed and accepted so far, of an engine that keeps statistics."""
    values = {metric.name: getattr(metric, "value", None) for metric in llm.get_metrics()}
    return (
        values["vllm:spec_decode_num_draft_tokens"],
        values["vllm:spec_decode_num_accepted_tokens"],
    )


def watch_prompts(llm: LLM) -> dict[str, tuple[int, int]]:
    """From now on: request -> (tokens of its prompt, steps that computed some of them).

    The engine must run in this process; a prefix that the cache holds is no step.
    """
    scheduler: Any = llm.llm_engine.engine_core.engine_core.scheduler
    seen: dict[str, tuple[int, int]] = {}
    schedule = scheduler.schedule

    def watched(*arguments: Any) -> Any:
        output = schedule(*arguments)
        cached = output.scheduled_cached_reqs
        begun = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        begun |= {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        for name, computed in begun.items():
            length = scheduler.requests[name].num_prompt_tokens
            if computed < length:
                seen[name] = length, seen.get(name, (length, 0))[1] + 1
        return output

    scheduler.schedule = watched
    return seen


def assert_split(seen: dict[str, tuple[int, int]], tokens: int) -> None:
    """Of what :func:`watch_prompts` saw, each prompt of more than ``tokens`` took several steps."""
    steps = [count for length, count in seen.values() if length > tokens]
    assert steps, f"no prompt is longer than {tokens} tokens"
    assert min(steps) > 1, f"a prompt of more than {tokens} tokens took one step"
