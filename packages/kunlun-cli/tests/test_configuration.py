# SPDX-License-Identifier: Apache-2.0
"""config.json of a folder; of damaged ones, ``test_serve`` has more."""

from __future__ import annotations

import json

import pytest

from vllm_kunlun.cli.configuration import architecture_of, configuration_of
from vllm_kunlun.platforms.errors import UnsupportedError


def test_of_a_folder(tmp_path):
    content = {"architectures": ["AForCausalLM", "B"], "x": 1}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert configuration_of(str(tmp_path)) == content
    assert architecture_of(str(tmp_path)) == "AForCausalLM"


def test_of_the_hub_and_not_here():
    assert configuration_of("owner/name") is None
    assert architecture_of("owner/name") is None


def test_without_a_file(tmp_path):
    with pytest.raises(UnsupportedError, match=r"holds no config\.json"):
        configuration_of(str(tmp_path))
