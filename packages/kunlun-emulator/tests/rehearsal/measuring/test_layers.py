# SPDX-License-Identifier: Apache-2.0
"""Fewer layers that stand for all: the pattern that is found, and what is kept of it."""

from __future__ import annotations

import pytest

from vllm_kunlun.emulator.rehearsal.measuring.layers import pattern_of, text_of, with_layers
from vllm_kunlun.platforms.errors import UnsupportedError


@pytest.mark.parametrize(
    ("config", "pattern"),
    [
        ({"num_hidden_layers": 5}, (0, 1)),
        ({"n_layer": 5}, (0, 1)),
        ({"num_hidden_layers": 5, "first_k_dense_replace": 2}, (2, 1)),
        ({"num_hidden_layers": 6, "layer_types": list("aabaab")}, (0, 3)),
        ({"num_hidden_layers": 5, "layer_types": list("xabab")}, (1, 2)),
        ({"num_hidden_layers": 6, "mlp_only_layers": [0]}, (1, 1)),
        ({"num_hidden_layers": 8, "decoder_sparse_step": 2}, (0, 2)),
        ({"num_hidden_layers": 8, "layer_types": list("ab") * 4, "decoder_sparse_step": 4}, (0, 4)),
        ({"num_hidden_layers": 4, "layer_types": list("aaab")}, (0, 4)),
        ({"num_hidden_layers": 1}, (0, 1)),
        ({"text_config": {"num_hidden_layers": 4, "layer_types": list("abab")}}, (0, 2)),
    ],
)
def test_the_shortest_pattern_is_found(config, pattern):
    assert pattern_of(config) == pattern


def test_one_of_the_first_layers_stands_for_them_when_there_is_no_room():
    config = {"num_hidden_layers": 6, "first_k_dense_replace": 3, "kinds": list("dddmmm")}
    assert with_layers(config, 2) == {
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
        "kinds": ["d", "m"],
    }
    assert with_layers(config, 5)["kinds"] == list("dddmm")
    assert config["num_hidden_layers"] == 6


def test_more_layers_are_of_the_pattern():
    config = {"num_hidden_layers": 6, "first_k_dense_replace": 3, "kinds": list("dddmmm")}
    made = with_layers(config, 2, more=1)
    assert (made["kinds"], made["first_k_dense_replace"]) == (list("dmm"), 1)


def test_one_period_more_is_whole_period_more():
    config = {"num_hidden_layers": 8, "layer_types": list("aaabaaab")}
    assert with_layers(config, 4)["layer_types"] == list("aaab")
    assert with_layers(config, 8)["layer_types"] == list("aaabaaab")
    assert with_layers(config, 10)["layer_types"] == list("aaabaaabaa")


def test_layers_that_differ_by_their_index_keep_its_remainder():
    config = {"num_hidden_layers": 9, "decoder_sparse_step": 2, "first_k_dense_replace": 3}
    assert pattern_of(config) == (3, 2)
    made = with_layers(config, 5)
    assert (made["first_k_dense_replace"], made["decoder_sparse_step"]) == (3, 2)


def test_dense_layers_by_index_move_with_their_layer():
    config = {"num_hidden_layers": 6, "mlp_only_layers": [0, 1]}
    assert with_layers(config, 2)["mlp_only_layers"] == [0]
    assert with_layers(config, 3)["mlp_only_layers"] == [0, 1]


def test_the_language_model_of_a_nested_configuration_is_cut():
    config = {"text_config": {"num_hidden_layers": 4}, "vision_config": {"num_hidden_layers": 7}}
    made = with_layers(config, 1)
    assert text_of(made)["num_hidden_layers"] == 1
    assert made["vision_config"] == {"num_hidden_layers": 7}


def test_a_depth_under_no_known_name_is_refused():
    with pytest.raises(UnsupportedError, match="num_hidden_layers"):
        pattern_of({"stages": 4})
