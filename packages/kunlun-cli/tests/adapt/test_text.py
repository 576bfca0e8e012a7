# SPDX-License-Identifier: Apache-2.0
"""What a person reads."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vllm_kunlun.cli.adapt.text import show

RESULT = {
    "architecture": "PlantedForCausalLM", "case": "B", "said": ["written [bold]"],
    "wheel": "kunlun-models-planted", "folder": "here", "files": ["a", "b"], "todo": [],
    "proved": True, "tests": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "PlantedForCausalLM: case B\n  written [bold].\n"),
        ({}, "Proved: its tests pass."),
        ({"case": "file"}, "PlantedForCausalLM: a model file"),
        ({"todo": ["one thing"], "proved": None}, "TODO(adapt) in the model file:\n  one thing"),
        ({"proved": False, "tests": "1 failed"}, "Its tests fail:\n  1 failed"),
        ({"proved": None}, "Next: vllm-kunlun lint here\n      pip install ./here\n"),
        ({"folder": "in/here"}, "pip install in/here\n"),
        ({"folder": "/in/here"}, "pip install /in/here\n"),
    ],
)
def test_said(values, said):
    stream = io.StringIO()
    show({**RESULT, **values}, Console(file=stream, soft_wrap=True, width=80))
    assert said in stream.getvalue()
