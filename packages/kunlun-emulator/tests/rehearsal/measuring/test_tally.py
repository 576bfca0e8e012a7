# SPDX-License-Identifier: Apache-2.0
"""Counts of two depths, made into what a step and a layer ask for; worked by hand."""

from __future__ import annotations

import typing

from vllm_kunlun.emulator.rehearsal import counts
from vllm_kunlun.emulator.rehearsal.measuring import tally


def _model(layers, steps, captured):
    def phase(steps):
        return {
            "steps": steps,
            "milliseconds": 1.5,
            "asked": [
                ["vendor", "norm", True, 2 * layers * steps],
                ["vendor", "attention", False, layers * steps],
                ["wait", "runner.py:7", False, steps],
            ],
        }

    return {"captured_bytes": captured, "prefill": phase(1), "decode": phase(steps)}


def test_a_step_is_the_shallower_and_a_layer_the_difference():
    models = [_model(2, 8, 100), _model(6, 8, 180)]
    run = tally.run_of({"models": models, "vllm_classes": []}, period=4)
    assert (run["captured_bytes"], run["captured_bytes_per_layer"]) == (100, 20)
    decode = run["phases"]["decode"]
    assert decode["totals"]["vendor"] == {
        "in_graph": {"per_step": 4, "per_layer": 2},
        "outside": {"per_step": 2, "per_layer": 1},
    }
    assert decode["totals"]["wait"]["outside"] == {"per_step": 1, "per_layer": 0}
    assert decode["totals"]["launch"]["outside"] == {"per_step": 0, "per_layer": 0}
    assert (decode["steps"], decode["host_ms"]) == (8, 1.5)
    assert [row["name"] for row in decode["asked"]] == ["attention", "norm", "runner.py:7"]
    assert run["phases"]["prefill"]["totals"]["vendor"]["in_graph"]["per_layer"] == 2


def test_of_one_model_alone_nothing_is_said_of_a_layer():
    run = tally.run_of({"models": [_model(2, 8, 100)], "vllm_classes": []}, period=None)
    assert run["captured_bytes_per_layer"] is None
    assert run["phases"]["decode"]["totals"]["vendor"]["outside"] == {
        "per_step": 2,
        "per_layer": None,
    }


def test_what_only_the_deeper_model_asks_for_belongs_to_the_layer():
    shallow, deep = _model(1, 4, 0), _model(2, 4, 0)
    deep["decode"]["asked"].append(["launch", "add", False, 12])
    run = tally.run_of({"models": [shallow, deep], "vllm_classes": []}, period=1)
    assert run["phases"]["decode"]["totals"]["launch"]["outside"] == {
        "per_step": 0,
        "per_layer": 3,
    }


def test_every_kind_that_is_counted_has_its_row():
    assert set(tally.KINDS) == set(typing.get_args(counts.Kind))
