# SPDX-License-Identifier: Apache-2.0
"""``vllm-kunlun weights`` on checkpoints that are damaged, and on ones that are not."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
import torch
from support import damage, json_output

from vllm_kunlun.cli.main import app
from vllm_kunlun.platforms.loading import survey

TEN = (
    "lost-shard",
    "one-byte-short",
    "index-without-map",
    "float-without-k",
    "experts-without-one-up",
    "float-wide-down",
    "float-more-words",
    "float-norm-int8",
    "w8a8-in-float",
    "other-names",
)
SAID_OTHERWISE = {"gptq-without-up": "gate_up_proj"}
"""Cases of which the command names the fault in other words than serving does."""


@pytest.fixture
def weights(capfd):
    """``weights(folder, ...)``: exit code and the object. vLLM wants a real standard output, and in
    a process of tests its log, and gloo, write there first."""

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app(["weights", *map(str, arguments), "--json"])
        said = capfd.readouterr().out
        return ended.value.code, json_output.read("weights", said[said.index("{\n") :])

    return run


def _named(name, source, tmp_path, weights):
    case = damage.CASES[name]
    code, result = weights(damage.copy(source(case.source), tmp_path / "x", case.change))
    assert (code, result["ok"]) == (1, False)
    faults = [row for row in result["tensors"] if row["detail"]]
    text = json.dumps([result["refused"], result["missing"], faults])
    for word in (SAID_OTHERWISE[name],) if name in SAID_OTHERWISE else case.words:
        assert word in text


@pytest.mark.parametrize("name", TEN)
def test_a_damaged_checkpoint_is_named(name, source, tmp_path, weights):
    _named(name, source, tmp_path, weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*damage.FILES, *damage.TENSORS} - {*TEN}))
def test_every_other_one_too(name, source, tmp_path, weights):
    _named(name, source, tmp_path, weights)


def test_several_faults_are_named_at_once(source, tmp_path, weights):
    """Serving stops at the first."""

    def edit(state):
        state["model.layers.1.self_attn.k_prj.weight"] = state.pop(
            "model.layers.1.self_attn.k_proj.weight"
        )
        state["model.norm.weight"] = torch.ones(3)
        state["lm_head.weight"] = state["lm_head.weight"].to(torch.int8)

    _, result = weights(damage.copy(source("float"), tmp_path / "x", damage.tensors(edit)))
    faults = {row["name"]: row["status"] for row in result["tensors"] if row["detail"]}
    assert faults == {"model.norm.weight": "shape", "lm_head.weight": "dtype"}
    assert result["missing"] == [
        {
            "parameter": "model.layers.1.self_attn.k_proj.weight",
            "nearest": "model.layers.1.self_attn.k_prj.weight",
        }
    ]


@pytest.mark.parametrize("kind", ["experts", "w8a8", "awq", "gptq", "w4a16"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_whole_one_is_well(kind, ranks, source, weights):
    code, result = weights(source(kind), "-tp", ranks)
    assert (code, result["ok"]) == (0, True)
    assert {"matched", "stacked"} <= set(result["counts"])
    assert (result["sharded"] > 0) == (ranks > 1)
    if ranks > 1 and kind == "experts":
        whole = {row["name"] for row in result["tensors"] if not row["sharded"]}
        assert all("norm" in name or "gate.weight" in name for name in whole)


@pytest.mark.slow
def test_hundreds_of_gigabytes_take_seconds_and_no_memory(tmp_path, weights):
    """215 GB in 54 files of which the headers are there, and holes for the rest."""
    import psutil

    size = _sparse(tmp_path)
    assert size > 200e9
    code, result = weights(tmp_path, "-tp", 4)
    assert (code, result["bytes"]) == (0, size)
    assert psutil.Process().memory_info().rss < 3e9


def _sparse(folder: Path) -> int:
    """A mixture of 56 experts in 94 layers; its bytes."""
    layers, hidden, experts, inner, words = 94, 4096, 56, 1536, 151936
    content = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "vocab_size": words,
        "hidden_size": hidden,
        "intermediate_size": 12288,
        "moe_intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_experts": experts,
        "num_experts_per_tok": 8,
        "num_attention_heads": 64,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "max_position_embeddings": 4096,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(content))
    shapes = {
        "model.embed_tokens.weight": (words, hidden),
        "lm_head.weight": (words, hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(layers):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "input_layernorm": (hidden,),
                "post_attention_layernorm": (hidden,),
                "self_attn.q_norm": (128,),
                "self_attn.k_norm": (128,),
                "self_attn.q_proj": (8192, hidden),
                "self_attn.k_proj": (512, hidden),
                "self_attn.v_proj": (512, hidden),
                "self_attn.o_proj": (hidden, 8192),
                "mlp.gate": (experts, hidden),
                **{
                    f"mlp.experts.{expert}.{name}_proj": shape
                    for expert in range(experts)
                    for name, shape in (
                        ("gate", (inner, hidden)),
                        ("up", (inner, hidden)),
                        ("down", (hidden, inner)),
                    )
                },
            }.items()
        }
    names = list(shapes)
    parts = [names[start : start + 310] for start in range(0, len(names), 310)]
    places, total = {}, 0
    for number, part in enumerate(parts, 1):
        file = f"model-{number:05}-of-{len(parts):05}.safetensors"
        header, end = {}, 0
        for name in part:
            begin, end = end, end + 2 * math.prod(shapes[name])
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [begin, end]}
            places[name] = file
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + end)
        total += end
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / damage.INDEX).write_text(json.dumps(index))
    return total


def test_a_class_that_looks_at_numbers_is_said(source, weights, monkeypatch):
    from vllm_kunlun.platforms.loading.writes import NeedsNumbersError

    def asks(self, weights):
        next(iter(weights))
        raise NeedsNumbersError("a loader reads the numbers of a large tensor")

    from vllm_kunlun.models.qwen.qwen3 import KunlunQwen3ForCausalLM

    monkeypatch.setattr(KunlunQwen3ForCausalLM, "load_weights", asks)
    code, result = weights(source("float"))
    assert code == 1
    assert "looks at the numbers" in result["unread"]


def test_it_stops_after_many_faults_and_says_so(source, tmp_path, weights, monkeypatch):
    monkeypatch.setattr(survey, "_ROUNDS", 3)
    case = damage.TENSORS["other-names"]
    _, result = weights(damage.copy(source("float"), tmp_path / "x", case.change))
    assert result["unread"] == "the first 3 tensors that do not fit are shown"
    assert result["counts"]["unexpected"] == 3
