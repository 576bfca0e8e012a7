# SPDX-License-Identifier: Apache-2.0
"""Where registrations are read from."""

from pathlib import Path

from vllm_kunlun.cli.lint.rules.registration import registrations
from vllm_kunlun.cli.lint.source import Source, text


def test_both_ways_to_register_are_read():
    content = """\
from vllm import ModelRegistry

ModelRegistry.register_model("A", "a:A")
ModelRegistry.register_model(model_arch="B", model_cls="b:B")
ModelFamily(architectures={"C": "c:C", "D": None}, drafts={"E": "e:E"})
other.register_model("F", "f:F")
"""
    pairs = [(text(a), text(b)) for a, b in registrations(Source(Path("x.py"), content))]
    assert pairs == [('"A"', '"a:A"'), ('"B"', '"b:B"'), ('"C"', '"c:C"'), ('"D"', "None"),
                     ('"E"', '"e:E"')]  # fmt: skip
