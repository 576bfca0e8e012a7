# SPDX-License-Identifier: Apache-2.0
"""A wheel's tests are run with its entry points, and their verdict is given."""

from __future__ import annotations

import pytest

from vllm_kunlun.cli.adapt import prove
from vllm_kunlun.cli.adapt.wheel import Wheel
from vllm_kunlun.platforms.errors import MissingWheelError

WHEEL = Wheel("planted", "PlantedForCausalLM", text="VALUE = 3\n", file="planted.py")
TEST = """\
from importlib.metadata import entry_points

def test_of_the_wheel():
    (one,) = entry_points(group="vllm.general_plugins", name="kunlun_model_planted")
    assert one.value == "vllm_kunlun.models.planted.plugin:register"
    from vllm_kunlun.models.planted import planted
    assert planted.VALUE == {value}
"""


@pytest.mark.parametrize(("value", "passes"), [(3, True), (4, False)])
def test_the_verdict_is_that_of_the_tests(tmp_path, value, passes):
    package = tmp_path / "src" / "vllm_kunlun" / "models" / "planted"
    package.mkdir(parents=True)
    (package / "planted.py").write_text(WHEEL.text)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "tests" / "test_it.py").write_text(TEST.format(value=value))
    passed, printed = prove.prove(tmp_path, WHEEL)
    assert passed is passes, printed
    assert ("1 passed" if passes else "1 failed") in printed
    assert not list(tmp_path.rglob("__pycache__"))


def test_without_pytest_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(prove, "find_spec", lambda name: None)
    with pytest.raises(MissingWheelError, match="pip install pytest"):
        prove.check()
