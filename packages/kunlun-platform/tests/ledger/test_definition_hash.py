# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import textwrap
from typing import Any

import pytest

from vllm_kunlun.platforms.ledger.definition_hash import source_sha256


@pytest.mark.parametrize(
    "target",
    [
        "json:dumps",
        "json.decoder:JSONDecoder",
        "json.decoder:JSONDecoder.raw_decode",
        "argparse:ArgumentParser.add_subparsers",
        "contextlib:_BaseExitStack.push",
        "fractions:Fraction.from_float",
        "tempfile:TemporaryDirectory.cleanup",
    ],
)
def test_is_the_hash_of_what_inspect_shows(target: str) -> None:
    module, _, path = target.partition(":")
    thing: Any = importlib.import_module(module)
    for part in path.split("."):
        thing = getattr(thing, part)
    text = textwrap.dedent(inspect.getsource(thing))
    assert source_sha256(target) == hashlib.sha256(text.encode()).hexdigest()


def test_branches_constants_and_absences_without_importing(ground) -> None:
    source = """
        raise RuntimeError("imported")
        TYPES = {
            int: "int",
        }
        try:
            import fast
            def f(): return "fast"
        except ImportError:
            def f(): return "slow"
        class A:
            def own(self): ...
        class B(A):
            limit: int = 3
        """
    ground.module("defs", source)
    expected = 'TYPES = {\n    int: "int",\n}\n'
    assert source_sha256("defs:TYPES") == hashlib.sha256(expected.encode()).hexdigest()
    both = 'def f(): return "fast"\ndef f(): return "slow"\n'
    assert source_sha256("defs:f") == hashlib.sha256(both.encode()).hexdigest()
    assert source_sha256("defs:B.limit") == hashlib.sha256(b"limit: int = 3\n").hexdigest()
    assert source_sha256("defs:B.own") is None, "inherited: B's source does not define it"
    assert source_sha256("defs:nothing") is None
    assert source_sha256("no_such_module:f") is None
    assert "defs" not in sys.modules
