# SPDX-License-Identifier: Apache-2.0
"""Who calls the adapter: read from the sources of the wheels that are installed."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import vllm_kunlun

__all__ = ["callers"]

_ADAPTER = "vllm_kunlun.ops.vendor_ops"
_BENCHMARK = "vllm_kunlun.ops.conformance.benchmark"
"""It calls everything, and no model calls it."""


def callers() -> dict[str, tuple[str, ...]]:
    """Name in ``vllm_kunlun.ops.vendor_ops`` -> the modules of all our wheels that use it."""
    found: dict[str, set[str]] = defaultdict(set)
    for root in map(Path, vllm_kunlun.__path__):
        for file in root.rglob("*.py"):
            module = ".".join(("vllm_kunlun", *file.relative_to(root).with_suffix("").parts))
            if module.startswith((_ADAPTER, _BENCHMARK)):
                continue
            for name in _used(ast.parse(file.read_text(encoding="utf-8"))):
                found[name].add(module)
    return {name: tuple(sorted(modules)) for name, modules in found.items()}


def _used(tree: ast.Module) -> set[str]:
    """Names taken from the adapter: ``vendor_ops.NAME``, or imported from it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "vendor_ops":
                names.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_ADAPTER):
            names.update(alias.name for alias in node.names)
    return names
