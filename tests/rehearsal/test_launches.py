# SPDX-License-Identifier: Apache-2.0
"""What a decode step asks of the device for one layer, model by model: it must not grow again."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import pytest


class PerLayer(NamedTuple):
    """Calls of one layer in a decode step: a mean over the layers of a pattern."""

    vendor: float
    launches: float
    vendor_outside: float
    """Of the vendor calls, those that no graph replays: each costs the host."""
    launches_outside: float


EXPECTED = {
    "qwen3": PerLayer(6, 4, 2, 0),
    "qwen2.5-vl": PerLayer(6, 8, 2, 1),
    "qwen3-moe": PerLayer(9, 6, 2, 0),
    "qwen3-moe-w8a8": PerLayer(17, 2, 2, 0),
    "gpt-oss": PerLayer(11, 14, 2, 0),
    "qwen3-next": PerLayer(10.75, 17.75, 2, 2.25),
    "deepseek-v3": PerLayer(12, 20, 2, 3),
    "deepseek-v3.2": PerLayer(18, 28, 7, 5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_a_decode_step_asks_for_no_more_than(name: str) -> None:
    code = "from vllm_kunlun.cli.main import app; app()"
    asked = [name, "--json", "--batch", "2", "--steps", "4", "--prompt-tokens", "9"]
    done = subprocess.run(
        [sys.executable, "-c", code, "rehearse", *asked], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    decode = json.loads(done.stdout)["runs"]["ours"]["phases"]["decode"]

    def count(kind: str, where: str) -> float:
        return decode["totals"][kind][where]["per_layer"]

    vendor, launches = ((count(k, "in_graph"), count(k, "outside")) for k in ("vendor", "launch"))
    came = PerLayer(sum(vendor), sum(launches), vendor[1], launches[1])
    by_name = {
        (each["name"], "in graph" if each["in_graph"] else "outside"): each["per_layer"]
        for each in decode["asked"]
        if each["kind"] in ("vendor", "launch") and each["per_layer"]
    }
    assert came == EXPECTED[name], by_name
