# SPDX-License-Identifier: Apache-2.0
"""The look at a checkpoint before it is read refuses none that vLLM loads, and costs little."""

from __future__ import annotations

import time

import pytest
import torch
import transformers
from support.architectures import NOT_TRIED, architectures, configuration
from support.loading import load

SECONDS = 3.0


NOT_LOADED = {
    **dict.fromkeys(
        (
            "BambaForCausalLM",
            "FalconH1ForCausalLM",
            "FalconMambaForCausalLM",
            "GraniteMoeHybridForCausalLM",
            "JambaForCausalLM",
            "Lfm2ForCausalLM",
            "Mamba2ForCausalLM",
            "MambaForCausalLM",
            "MiniMaxForCausalLM",
            "Zamba2ForCausalLM",
        ),
        "refused for its layers, before a loader is made",
    ),
    "Gemma3nForCausalLM": "transformers makes none of four layers",
    "LongcatFlashForCausalLM": NOT_TRIED["LongcatFlashForCausalLM"],
}
"""Why an architecture has no checkpoint here that could be loaded."""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(set(architectures()) - set(NOT_LOADED)))
def test_no_architecture_is_refused_that_vllm_loads(architecture, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configuration(architecture))
    model.save_pretrained(tmp_path)
    monkeypatch.setenv("VLLM_KUNLUN_CHECK_WEIGHTS", "0")
    plain, looks = load(tmp_path)
    assert not looks
    monkeypatch.setenv("VLLM_KUNLUN_CHECK_WEIGHTS", "1")
    judged, looks = load(tmp_path)
    assert looks == [False]
    found = dict(judged.named_parameters())
    assert found.keys() == dict(plain.named_parameters()).keys()
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, found[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "files"), [(8, 1), (52, 200)], ids=["128x8", "200-files"])
def test_a_look_at_twenty_thousand_tensors(layers, files, tmp_path, monkeypatch):
    """In seconds of this process, of which a busy neighbour takes none."""
    from vllm_kunlun.platforms.loading.loader import KunlunModelLoader

    config = transformers.Qwen3MoeConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=32,
        moe_intermediate_size=8,
        num_hidden_layers=layers,
        num_experts=128,
        num_experts_per_tok=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=256,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    model.save_pretrained(tmp_path, max_shard_size=size // files + (files == 1) * size)
    assert len(list(tmp_path.glob("*.safetensors"))) >= files

    took: list[float] = []
    judge = KunlunModelLoader._judge

    def timed(*args, **kwargs):
        began = time.process_time()
        told = judge(*args, **kwargs)
        took.append(time.process_time() - began)
        return told

    monkeypatch.setattr(KunlunModelLoader, "_judge", timed)
    load(tmp_path)
    print(f"{layers} layers of 128 experts in {files} file(s): {took[0]:.2f} s")
    assert len(took) == 1
    assert took[0] < SECONDS
