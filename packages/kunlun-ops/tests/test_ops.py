# SPDX-License-Identifier: Apache-2.0
"""The package's own names: each leads where the code is, and is found when first asked for."""

from __future__ import annotations

import pytest

from vllm_kunlun import ops
from vllm_kunlun.ops.torch_ops import declaration, registration


@pytest.fixture(autouse=True)
def _unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no name had been asked for yet."""
    for name in ops.__all__:
        monkeypatch.delitem(vars(ops), name, raising=False)


def test_each_name_leads_where_the_code_is() -> None:
    assert {name: getattr(ops, name) for name in ops.__all__} == {
        "OpDeclarationError": declaration.OpDeclarationError,
        "check_op": declaration.check_op,
        "custom_op": registration.custom_op,
    }


def test_a_name_is_kept_once_it_is_found() -> None:
    assert "custom_op" not in vars(ops)
    assert ops.custom_op is vars(ops)["custom_op"]


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"'vllm_kunlun\.ops' has no attribute 'no_such_name'"):
        ops.no_such_name  # noqa: B018
    with pytest.raises(ImportError, match="no_such_name"):
        from vllm_kunlun.ops import no_such_name  # noqa: F401
