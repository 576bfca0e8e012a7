# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from vllm_kunlun.platforms.ledger import import_hook
from vllm_kunlun.platforms.ledger.entries import Redirect
from vllm_kunlun.platforms.ledger.module_source import locate


@pytest.mark.parametrize("name", ["json", "json.decoder", "email.mime.text", "argparse", "pytest"])
def test_agrees_with_the_import_system(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert locate(name) == Path(spec.origin)


@pytest.mark.parametrize("name", ["sys", "no_such_package", "json.nothing", "json.decoder.deeper"])
def test_no_source(name: str) -> None:
    assert locate(name) is None


def test_imports_nothing_and_walks_namespace_packages(ground) -> None:
    ground.module("ground_a.inner.deep.leaf", "raise RuntimeError('imported')")
    (ground.root / "ground_a" / "inner" / "__init__.py").unlink()
    (ground.root / "ground_a" / "inner" / "deep" / "__init__.py").unlink()
    (ground.root / "ground_a" / "__init__.py").write_text("raise RuntimeError('imported')")
    assert locate("ground_a.inner.deep.leaf") == ground.root / "ground_a/inner/deep/leaf.py"
    assert "ground_a" not in sys.modules


def test_what_our_own_finders_answer_is_not_the_source(ground) -> None:
    """A module without a parent is asked of the finders, of which a ledger's is the first."""
    sha256 = ground.module("victim_top", "WHO = 'vllm'")
    ground.module("ours_top", "WHO = 'ours'")
    redirect = Redirect("victim_top", "ours_top", "w", "u", ">=0.15", sha256, "r")
    import_hook.install([redirect])
    assert locate("victim_top") == ground.root / "victim_top.py"
    import_hook.install([redirect])
