# SPDX-License-Identifier: Apache-2.0
"""A survey made by hand: one tensor of each status, beside parameters of a model of one layer."""

from __future__ import annotations

import pytest
import torch

from vllm_kunlun.platforms.loading.survey import Fault, Survey
from vllm_kunlun.platforms.loading.writes import Source, Target, Writes

LAYER = "model.layers.0."


@pytest.fixture
def found() -> Survey:
    def source(name: str, used: int = 4) -> Source:
        return Source(name, "a.safetensors", (2, 2), torch.bfloat16, used)

    sources = {
        name: source(name)
        for name in ("same", "old", f"{LAYER}q_proj", f"{LAYER}k_proj", "both", "lm_head",
                     f"{LAYER}v_prj", "unknown", "large")
    }  # fmt: skip
    sources["half"] = source("half", 2)
    writes = Writes({})
    for parameter, names in {
        "same": ["same"],
        "new": ["old"],
        f"{LAYER}qkv_proj": [f"{LAYER}q_proj", f"{LAYER}k_proj"],
        "one": ["both"],
        "two": ["both"],
        "half": ["half"],
    }.items():
        writes.targets[parameter] = Target(4, {}, {name: sources[name] for name in names})
    shapes = dict.fromkeys((*writes.targets, "large", "embed"), ((2, 2), torch.float16))
    return Survey(
        parameters=shapes,
        tied={"lm_head": "embed"},
        sources=sources,
        writes=writes,
        missing=[f"{LAYER}v_proj", "large"],
        faults=[
            Fault("unexpected", sources["unknown"], "the model has no parameter for it"),
            Fault("shape", sources["large"], "the parameter has shape [2, 2]", "large"),
        ],
    )
