# SPDX-License-Identifier: Apache-2.0
"""The option is given where vLLM has it, and is one that vLLM knows."""

from __future__ import annotations

import pytest
from vllm.engine.arg_utils import EngineArgs

from vllm_kunlun.platforms.vllm_compat import swap_space


def test_vllm_knows_what_is_given() -> None:
    assert set(swap_space.none_taken()) == {"swap_space"} & set(EngineArgs.__dataclass_fields__)


@pytest.mark.parametrize(("gone", "given"), [(False, {"swap_space": 0}), (True, {})])
def test_releases(gone: bool, given: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_space, "_IS_GONE", gone)
    assert swap_space.none_taken() == given
