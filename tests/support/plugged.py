# SPDX-License-Identifier: Apache-2.0
"""A plugin of vLLM that is installed for the processes that are given a ``PYTHONPATH``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["plugin"]


def plugin(folder: Path, text: str) -> Path:
    """Write ``text``, a module with ``register``, and its entry point; the folder for the path."""
    info = folder / "planted-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nplanted = planted_plugin:register\n"
    )
    (folder / "planted_plugin.py").write_text(text)
    return folder
