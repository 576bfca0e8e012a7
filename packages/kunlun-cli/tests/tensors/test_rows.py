# SPDX-License-Identifier: Apache-2.0
"""The status of each tensor, and names that are alike."""

import json

from vllm_kunlun.cli.tensors.rows import MEANING, as_result, nearest

STATUS = {
    "same": "matched",
    "old": "renamed",
    "model.layers.0.q_proj": "stacked",
    "model.layers.0.k_proj": "stacked",
    "both": "split",
    "lm_head": "tied",
    "model.layers.0.v_prj": "ignored",
    "unknown": "unexpected",
    "large": "shape",
    "half": "matched",
}


def test_each_tensor_has_its_status(found):
    result = as_result(found, model="here")
    assert {row["name"]: row["status"] for row in result["tensors"]} == STATUS
    assert sum(result["counts"].values()) == len(STATUS)
    assert set(result["counts"]) <= set(MEANING)
    assert (result["ok"], result["model"], result["bytes"]) == (False, "here", 10 * 8)
    assert json.loads(json.dumps(result)) == result


def test_a_part_that_a_rank_takes_is_sharded(found):
    result = as_result(found)
    assert [row["name"] for row in result["tensors"] if row["sharded"]] == ["half"]
    assert result["sharded"] == 1


def test_what_is_missing_has_the_nearest_of_what_is_left_over(found):
    """A tensor that does not fit is one fault, not also a parameter that is missing."""
    assert as_result(found)["missing"] == [
        {"parameter": "model.layers.0.v_proj", "nearest": "model.layers.0.v_prj"}
    ]


def test_without_faults_it_is_well(found):
    found.missing, found.faults = [], []
    assert as_result(found)["ok"]
    found.unread = "the class looks at the numbers"
    result = as_result(found)
    assert not result["ok"]
    assert {row["status"] for row in result["tensors"]} >= {"unread"}


def test_a_name_of_another_layer_is_not_near():
    assert nearest("layers.1.up_prj", ["layers.2.up_proj", "layers.1.up_proj"]) == (
        "layers.1.up_proj"
    )
    assert nearest("layers.1.up_prj", ["layers.2.up_proj", "layers.1.up_prj"]) is None
