# SPDX-License-Identifier: Apache-2.0
"""A small configuration: what it keeps of the large one, and what it shrinks."""

from __future__ import annotations

import pytest

from vllm_kunlun.emulator.rehearsal.measuring import known
from vllm_kunlun.emulator.rehearsal.measuring.sizes import VOCABULARY, WIDTH, small

DECIDE_THE_PATH = (
    "architectures", "model_type", "torch_dtype", "layer_types", "rope_scaling", "rope_theta",
    "quantization_config", "head_dim", "num_experts_per_tok", "n_group", "topk_group",
    "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "sliding_window",
    "linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim", "index_topk",
    "max_position_embeddings", "first_k_dense_replace", "num_hidden_layers",
)  # fmt: skip


def _ratio(config, more, fewer):
    return config[more] // config[fewer] if more in config else None


@pytest.mark.parametrize("name", known.NAMES)
def test_what_decides_the_path_stays_and_widths_go(name):
    large = known.configuration(name)
    made = small(large)
    assert {key: made.get(key) for key in DECIDE_THE_PATH} == {
        key: large.get(key) for key in DECIDE_THE_PATH
    }
    for more, fewer in (
        ("num_attention_heads", "num_key_value_heads"),
        ("linear_num_value_heads", "linear_num_key_heads"),
    ):
        assert _ratio(made, more, fewer) == _ratio(large, more, fewer)
    assert made["hidden_size"] <= 4 * WIDTH
    assert made["intermediate_size"] <= WIDTH
    experts = next((key for key in ("num_experts", "n_routed_experts") if key in large), None)
    if experts is not None:
        assert made["num_experts_per_tok"] < made[experts] < large[experts]
        assert made[experts] % made.get("n_group", 1) == 0
    assert large == known.configuration(name)


def test_without_a_width_of_a_head_it_is_kept_by_the_residual_stream():
    config = {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}
    made = small(config)
    assert made["hidden_size"] // made["num_attention_heads"] == 128
    assert made["num_attention_heads"] // made["num_key_value_heads"] == 7


def test_as_many_key_heads_as_heads_stay_as_many():
    made = small({"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 32})
    assert (made["num_attention_heads"], made["num_key_value_heads"]) == (4, 4)


def test_a_small_vocabulary_has_its_special_tokens():
    made = small({"hidden_size": 64, "num_attention_heads": 2, "vocab_size": 151936,
                  "eos_token_id": [151643, 151645], "pad_token_id": None})  # fmt: skip
    assert made["vocab_size"] == VOCABULARY
    assert (made["eos_token_id"], made["pad_token_id"]) == (2, None)
    assert "bos_token_id" not in made


def test_a_model_of_pictures_keeps_its_vocabulary_and_its_towers_form():
    large = known.configuration("qwen2.5-vl")
    made = small(large)
    tower, before = made["vision_config"], large["vision_config"]
    assert made["vocab_size"] == large["vocab_size"] > made["image_token_id"]
    assert tower["hidden_size"] // tower["num_heads"] == (
        before["hidden_size"] // before["num_heads"]
    )
    assert tower["out_hidden_size"] == made["hidden_size"]
    assert max(tower["fullatt_block_indexes"]) < tower["depth"] < before["depth"]


def test_a_small_one_is_not_made_larger():
    config = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "head_dim": 32,
              "num_key_value_heads": 1, "vocab_size": 320, "num_experts": 6,
              "num_experts_per_tok": 2}  # fmt: skip
    assert small(config) == config
