# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``ops`` need besides their own wheel."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.ops import wheel
from vllm_kunlun.platforms.errors import MissingWheelError


def test_a_missing_wheel_is_named(run, monkeypatch):
    monkeypatch.setattr(wheel, "find_spec", lambda name: None)
    result = run("ops", "list")
    assert result.exit_code == 2
    assert "pip install kunlun-custom-ops" in result.stderr


@pytest.mark.parametrize("module", ["vllm_kunlun.ops", "torch"])
def test_the_first_that_is_missing_is_named_with_its_cure(monkeypatch, module):
    monkeypatch.setattr(wheel, "find_spec", lambda name: None if name == module else object())
    with pytest.raises(MissingWheelError, match=f"needs {module}, .* install"):
        wheel.require_ops()


def test_nothing_is_missing(monkeypatch):
    asked = []
    monkeypatch.setattr(wheel, "find_spec", lambda name: asked.append(name) or object())
    wheel.require_ops()
    assert asked == ["vllm_kunlun.ops", "torch"]
