# SPDX-License-Identifier: Apache-2.0
"""The activation between the two products of an expert: a name until 0.16, then of an enumeration.

0.33 also gives the numbers of SwiGLU with a limit, which were constants of gpt-oss before.
"""

from __future__ import annotations

from typing import Any

from vllm_kunlun.platforms.errors import UnsupportedError

__all__ = ["name_of"]

_GPT_OSS = {"swiglu_limit": 7.0, "swiglu_alpha": 1.702, "swiglu_beta": 1.0}
"""What ``swigluoai`` of the ops computes with."""


def name_of(layer: Any) -> str:
    """The activation of ``layer`` by vLLM's name.

    Raises:
        UnsupportedError: it has other numbers than gpt-oss.
    """
    name: str = getattr(layer.activation, "value", layer.activation)
    known = _GPT_OSS if name == "swigluoai" else {}
    for number in _GPT_OSS:
        given = getattr(layer, number, None)
        if given is not None and given != known.get(number):
            raise UnsupportedError(
                f"experts with the activation {name!r} and {number}={given:g} are not implemented: "
                "run the model on another platform."
            )
    return name
