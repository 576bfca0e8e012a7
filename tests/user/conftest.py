# SPDX-License-Identifier: Apache-2.0
"""Good checkpoints of several kinds, for tests that damage copies of them."""

from __future__ import annotations

import pytest
from support import quantised, w8a8

SCHEMES = {
    "awq": quantised.Scheme("awq", group=16),
    "gptq": quantised.Scheme("gptq", group=16, symmetric=True),
    "w4a16": quantised.Scheme("compressed-tensors", group=16, symmetric=True),
}


@pytest.fixture(scope="session")
def source(checkpoint, tmp_path_factory):
    """``source(kind)``: a good checkpoint of that kind."""
    made = {"float": checkpoint("qwen3"), "experts": checkpoint("qwen3-moe-even")}

    def make(kind: str):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            even = checkpoint("llama-even")
            if kind == "w8a8":
                made[kind] = w8a8.quantise(even, folder / kind, w8a8.Scheme(), ())
            else:
                made[kind], _ = quantised.write(even, folder, SCHEMES[kind])
        return made[kind]

    return make
