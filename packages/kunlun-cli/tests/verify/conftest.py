# SPDX-License-Identifier: Apache-2.0
"""A pair of checkpoints."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def pair(tmp_path):
    """Folders of a quantised and a plain checkpoint, of which only config.json is there."""
    folders = tmp_path / "quantised", tmp_path / "plain"
    for folder, more in zip(folders, ({"quantization_config": {"bits": 4}}, {}), strict=True):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"vocab_size": 10, **more}))
    return folders
