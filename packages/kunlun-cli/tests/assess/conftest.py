# SPDX-License-Identifier: Apache-2.0
"""Configurations, and an assessment of one model that fits four cards and not one."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def configuration(tmp_path):
    """``configuration("qwen3", "Qwen3ForCausalLM", vocab_size=8)``: a folder with config.json."""

    def write(model_type, architecture, **values):
        from transformers import CONFIG_MAPPING

        folder = tmp_path / model_type
        folder.mkdir()
        # Without a dtype vLLM looks for the weights, twice, with two seconds between.
        CONFIG_MAPPING[model_type](**{"dtype": "bfloat16", **values}).save_pretrained(folder)
        path = folder / "config.json"
        content = {**json.loads(path.read_text()), "architectures": [architecture]}
        path.write_text(json.dumps(content))
        return folder

    return write


@pytest.fixture
def way():
    """One way to spread a model, by its fields that differ from four cards half full."""

    def make(**values):
        return {
            "cards": 4, "tensor_parallel_size": 4, "pipeline_parallel_size": 1, "refused": "",
            "weights": {"attention": 10 * 2**30, "experts": 30 * 2**30}, "activations": 2**30,
            "runtime": 2 * 2**30, "cache": 43 * 2**30, "bytes_per_token": 9216.0, "tokens": 1000,
            "requests": 98.25, "weight_bytes": 40 * 2**30, "fits": True, **values,
        }  # fmt: skip

    return make


@pytest.fixture
def found(way):
    return {
        "model": "<planted> [bold]", "architecture": "PlantedForCausalLM",
        "case": {"letter": "A", "reason": "vLLM has it", "todo": "serve it", "wheel": "kunlun-x"},
        "card_bytes": 96 * 2**30, "checkpoint_bytes": 160 * 2**30, "quantisation": "awq",
        "attention": ["18 layers: full attention"], "class": "vllm.planted:Planted",
        "dtype": "float16", "length": 32768, "smallest": 4, "preset": "template A",
        "command": "vllm-kunlun serve planted --tensor-parallel-size 4",
        "ways": [
            way(cards=1, tensor_parallel_size=1, cache=0, requests=0.0, fits=False,
                weights={"attention": 40 * 2**30, "experts": 120 * 2**30},
                weight_bytes=160 * 2**30),
            way(),
            way(cards=8, tensor_parallel_size=8, refused="12 heads do not divide by 8"),
            way(cards=16, tensor_parallel_size=8, pipeline_parallel_size=2),
        ],
    }  # fmt: skip
