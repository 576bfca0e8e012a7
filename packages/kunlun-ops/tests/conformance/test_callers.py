# SPDX-License-Identifier: Apache-2.0
"""Callers of the adapter: found in the sources of every wheel, and nothing but callers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vllm_kunlun.ops.conformance.callers import callers

SOURCES = {
    "one/quantization/linear.py": "from vllm_kunlun.ops import vendor_ops\nvendor_ops.matmul(1)\n",
    "one/models/a.py": "from vllm_kunlun.ops.vendor_ops.norm import rmsnorm, l2norm as norm\n",
    "two/models/b.py": "def late():\n    return vendor_ops.rmsnorm or torch.matmul\n",
    "two/models/c.py": "'vendor_ops.matmul'  # vendor_ops.l2norm\nself.vendor_ops.topk\n",
    "two/ops/vendor_ops/norm.py": "vendor_ops.rmsnorm\n",
    "two/ops/conformance/benchmark/cases/norm.py": "vendor_ops.rmsnorm\n",
}
"""File of one of two wheels -> its text."""


def test_callers_of_every_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in SOURCES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    wheels = SimpleNamespace(__path__=[str(tmp_path / each) for each in ("one", "two")])
    monkeypatch.setattr("vllm_kunlun.ops.conformance.callers.vllm_kunlun", wheels)
    assert callers() == {
        "matmul": ("vllm_kunlun.quantization.linear",),
        "rmsnorm": ("vllm_kunlun.models.a", "vllm_kunlun.models.b"),
        "l2norm": ("vllm_kunlun.models.a",),
    }


def test_callers_of_the_installed_wheels() -> None:
    found = callers()
    assert "vllm_kunlun.ops.attention.implementation" in found["prefill_attention"]
    assert found["moe_post"] == ("vllm_kunlun.ops.torch_ops.moe",)
