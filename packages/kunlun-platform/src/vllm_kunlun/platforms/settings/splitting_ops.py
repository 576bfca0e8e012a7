# SPDX-License-Identifier: Apache-2.0
"""Where a model's graph is cut into pieces: the ops that no captured graph may hold.

They read a step's lengths on the host. A captured graph would repeat those of the step in which it
was captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.logger import init_logger

from vllm_kunlun.platforms import wheels

if TYPE_CHECKING:
    from vllm.config import CompilationConfig

__all__ = ["GROUP", "required", "translate", "update"]

logger = init_logger("vllm.kunlun.configuration")

GROUP = "vllm_kunlun.splitting_ops"
"""Entry-point group of ops ``vllm::<name>`` that no graph may hold."""

_RENAMED = {
    "vllm::gdn_attention": ("vllm::gdn_attention_core", "vllm::qwen_gdn_attention_core"),
}
"""Ops of the manual's with other names here: those of one release of vLLM or of another."""
_SUFFIXES = ("_vllm_kunlun", "_kunlun")
"""How the ops that the manual registers beside vLLM's end; ours have vLLM's own names."""


def required() -> list[str]:
    """Ops that end a piece whatever was asked for: vLLM's list and what installed wheels add."""
    from vllm.config import CompilationConfig

    return [
        *CompilationConfig._attention_ops,
        "vllm::unified_kv_cache_update",
        *(f"vllm::{name}" for name in wheels.names(GROUP)),
    ]


def translate(name: str) -> str | None:
    """The op that ``name`` of the manual's or of vLLM's means; None if there is no such op here.

    The manual writes ``vllm.op``; vLLM compares with ``vllm::op``, and would not split there. An op
    that is not known stays: a model's own code may register it later.
    """
    op = _as_vllm_writes(name)
    known = required()
    if op in known:
        return op
    if op in _RENAMED:
        return next((name for name in _RENAMED[op] if name in known), None)
    for suffix in _SUFFIXES:
        if op.startswith("vllm::") and op.endswith(suffix):
            plain = op.removesuffix(suffix)
            return plain if plain in known else None
    return op


def _as_vllm_writes(name: str) -> str:
    return name if "::" in name else name.replace(".", "::", 1)


def update(compilation: CompilationConfig, *, on_card: bool) -> None:
    """Read what was asked for and complete it; where nothing was, cut on a card only.

    Without captured graphs an empty list, of the user's or by default, leaves the graph whole.
    """
    from vllm.config import CompilationMode, CUDAGraphMode

    if compilation.mode not in (None, CompilationMode.VLLM_COMPILE):
        return  # nothing else is cut
    asked = compilation.splitting_ops
    if asked is None:
        compilation.splitting_ops = required() if on_card else []
    elif asked or compilation.cudagraph_mode != CUDAGraphMode.NONE:
        compilation.splitting_ops = _completed(asked)


def _completed(asked: list[str]) -> list[str]:
    """What was asked for in vLLM's names, and what is required; one line says what differs."""
    meant = {name: translate(name) for name in asked}
    pieces = list(dict.fromkeys(op for op in meant.values() if op is not None))
    added = [op for op in required() if op not in pieces]
    notes = [
        f"{name} is {op} here"
        for name, op in meant.items()
        if op is not None and op != _as_vllm_writes(name)
    ]
    notes += [
        f"{name} is left out, no op is called so here" for name, op in meant.items() if not op
    ]
    if added:
        notes.append(
            f"added {', '.join(added)}: they read a step's lengths on the host, which a captured "
            "graph would repeat"
        )
    if notes:
        logger.info("splitting_ops of --compilation-config: %s.", "; ".join(notes))
    return [*pieces, *added]
