# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

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
