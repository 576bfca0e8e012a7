# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle

import pytest

from vllm_kunlun.platforms import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_a_kunlun_error_and_survives_a_process_border(name: str) -> None:
    error = getattr(errors, name)("what to do next")
    assert isinstance(error, errors.KunlunError)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "what to do next"


def test_a_refused_value_is_a_value_error() -> None:
    """vLLM's server answers ValueError with HTTP 400 and anything else with 500."""
    assert issubclass(errors.UnsupportedError, ValueError)
