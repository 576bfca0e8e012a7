# SPDX-License-Identifier: Apache-2.0
"""What ``verify MODEL`` prints, 80 columns wide."""

from __future__ import annotations

import io

from rich.console import Console

from vllm_kunlun.cli.verify.text import show


def shown(result):
    stream = io.StringIO()
    show(result, Console(file=stream, width=80, soft_wrap=True))
    return stream.getvalue()


def test_everything_is_shown(result):
    text = shown(result)
    assert "TinyForCausalLM: vLLM has no class for it; another wheel's runs it (w): a.b:C" in text
    assert "equal up to token 1" in text
    assert "2 tokens equal" in text
    assert "mlp.gate_up_proj (gate_proj)" in text
    assert "(14 layers in all; --report shows each)" in text
    assert text.rstrip().endswith("DIFFERENT: <b>.\nNext: look")
    tables = [line for line in text.splitlines() if not line.startswith(("Tiny", "Judge", "DIFF"))]
    assert max(map(len, tables)) <= 80


def test_the_layer_that_differs_is_among_those_shown(result):
    for layer in result["layers"]:
        layer["added"] = 0.0
    result["layers"][13] = {"before": 0.0, "after": 0.9, "added": 0.9}
    assert "+0.9" in shown(result)


def test_an_answer_over_http(result):
    assert "vllm serve" not in shown(result)
    assert "vllm serve: other tokens" in shown({**result, "http": {"ok": False}})
