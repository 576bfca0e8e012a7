# SPDX-License-Identifier: Apache-2.0
"""What a rehearsal answers: one layer of ours beside vLLM's."""

from __future__ import annotations

import pytest

KINDS = ("vendor", "launch", "copy to device", "copy to host", "wait", "replay")
PLACE = "runner.py:7 <script>alert(1)</script> [bold]"


def _span(step, layer):
    return {"per_step": step, "per_layer": layer}


def _phase(asked, milliseconds):
    """``asked``: kind, name, in a graph, per step, per layer."""
    rows = [
        {"kind": kind, "name": name, "in_graph": inside, **_span(step, layer)}
        for kind, name, inside, step, layer in asked
    ]

    def total(kind, inside):
        found = [row for row in rows if (row["kind"], row["in_graph"]) == (kind, inside)]
        return _span(*(sum(row[span] for row in found) for span in ("per_step", "per_layer")))

    return {
        "steps": 16,
        "host_ms": milliseconds,
        "totals": {
            kind: {"in_graph": total(kind, True), "outside": total(kind, False)} for kind in KINDS
        },
        "asked": rows,
    }


def _run(norm, launches):
    asked = [
        ("vendor", "rmsnorm", True, norm, norm),
        ("vendor", "attention", False, 1.0, 1.0),
        ("launch", "aten::mm", True, launches, launches - 1.0),
        ("launch", "aten::mm", False, 1.0, 0.0),
        ("copy to device", "tokens", False, 1.25, 0.0),
        ("wait", PLACE, False, 1.0, 0.0),
    ]
    return {
        "captured_bytes": 3 << 20,
        "captured_bytes_per_layer": 1536.0,
        "vllm_classes": [] if norm else ["RMSNorm"],
        "phases": {"prefill": _phase(asked, 20.0), "decode": _phase(asked, 12.345)},
    }


@pytest.fixture
def result():
    return {
        "schema": 1,
        "model": "qwen3 <b>",
        "architecture": "Qwen3ForCausalLM",
        "quantisation": None,
        "shape": "tiny",
        "layers": 1,
        "layers_compared_with": 2,
        "batch": 4,
        "prompt_tokens": 64,
        "steps": 16,
        "dtype": "bfloat16",
        "eager": False,
        "surroundings": {
            "date": "2026-01-02T03:04:05+00:00",
            "device": "the emulator, on the host",
            "emulated": True,
            "python": "3.10",
            "wheels": {"vllm": "0.15.1"},
        },
        "runs": {"ours": _run(2.0, 5.0), "vllm": _run(0.0, 9.0)},
    }
