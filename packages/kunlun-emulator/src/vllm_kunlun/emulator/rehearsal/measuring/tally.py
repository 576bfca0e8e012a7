# SPDX-License-Identifier: Apache-2.0
"""Counts made into what a step and a layer ask for."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vllm_kunlun.emulator.rehearsal import counts

__all__ = ["KINDS", "SCHEMA", "run_of"]

SCHEMA = 1
"""Of the JSON object; it grows when a key changes its meaning or goes."""

KINDS: tuple[counts.Kind, ...] = (
    "vendor",
    "launch",
    "copy to device",
    "copy to host",
    "wait",
    "replay",
)


def run_of(answer: dict[str, Any], period: int | None) -> dict[str, Any]:
    """What one process measured, per step and per layer.

    Args:
        answer: of :func:`~vllm_kunlun.emulator.rehearsal.measuring.process.run`; its second model,
            if there is one, is the first with ``period`` more layers.
        period: by which the difference of the two is divided.

    Returns:
        ``captured_bytes``, ``captured_bytes_per_layer``, ``vllm_classes`` and ``phases``: for each
        of ``prefill`` and ``decode`` its ``steps``, ``host_ms``, ``totals`` (kind -> ``in_graph``
        and ``outside``, each with ``per_step`` and ``per_layer``) and ``asked``, the same by name.
    """
    model, *deeper = answer["models"]
    more = None
    if deeper and period:
        more = (deeper[0]["captured_bytes"] - model["captured_bytes"]) / period
    return {
        "captured_bytes": model["captured_bytes"],
        "captured_bytes_per_layer": more,
        "vllm_classes": answer["vllm_classes"],
        "phases": {
            phase: _phase(model[phase], deeper[0][phase] if deeper else None, period)
            for phase in ("prefill", "decode")
        },
    }


def _phase(
    sample: dict[str, Any], deeper: dict[str, Any] | None, period: int | None
) -> dict[str, Any]:
    asked = _counter(sample)
    more = _counter(deeper) if deeper else None
    rows = []
    for key in sorted({*asked, *(more or ())}, key=lambda key: (KINDS.index(key.kind), key)):
        layer = None
        if more is not None and period:
            layer = (more[key] - asked[key]) / sample["steps"] / period
        rows.append({**key._asdict(), "per_step": asked[key] / sample["steps"], "per_layer": layer})
    return {
        "steps": sample["steps"],
        "host_ms": sample["milliseconds"],
        "totals": {
            kind: {
                "in_graph": _total([r for r in rows if r["kind"] == kind and r["in_graph"]]),
                "outside": _total([r for r in rows if r["kind"] == kind and not r["in_graph"]]),
            }
            for kind in KINDS
        },
        "asked": rows,
    }


def _counter(sample: dict[str, Any]) -> Counter[counts.Asked]:
    return Counter({counts.Asked(*key): count for *key, count in sample["asked"]})


def _total(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    layers = [row["per_layer"] for row in rows]
    return {
        "per_step": sum(row["per_step"] for row in rows),
        "per_layer": None if None in layers else sum(layers),
    }
