# SPDX-License-Identifier: Apache-2.0
"""The option is given where vLLM has it, and is one that vLLM knows."""

from __future__ import annotations

import pytest
from vllm.engine.arg_utils import EngineArgs

from vllm_kunlun.platforms import version
from vllm_kunlun.platforms.vllm_compat.swap_space import none_taken


def test_vllm_knows_what_is_given() -> None:
    assert set(none_taken()) == {"swap_space"} & set(EngineArgs.__dataclass_fields__)


@pytest.mark.parametrize(
    ("installed", "given"),
    [("0.15.1", {"swap_space": 0}), ("0.16.0", {"swap_space": 0}), ("0.33.0", {})],
)
def test_releases(installed: str, given: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed_vllm", lambda: installed)
    assert none_taken() == given
